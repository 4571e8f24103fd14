"""``python -m bitsearch``, as ``torchrun -m bitsearch`` starts it."""

from bitsearch.cli import main

main()
