"""Adapters to the libraries that people write spiking networks with, one file for each library."""
