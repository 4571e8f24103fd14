"""Runs the command from a checkout without installing it: ``python cli.py run --budget 4x``."""

from bitsearch.cli import main

if __name__ == "__main__":
    main()
