"""What the commands print, and what the shell completes."""
