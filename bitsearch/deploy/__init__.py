"""Deployment: a trained plan as packed integers and their replay, and in other formats."""
