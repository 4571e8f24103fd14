"""What tests/marks.py names is there: a file that moved would lose its marks, and nothing else would say so."""

import re

from marks import COMPILED, FIRST, MARKS, TESTS


def test_every_file_and_test_that_is_named_exists():
    for name in {*FIRST, *COMPILED}.union(*MARKS.values()):
        file, _, test = name.partition("::")
        text = (TESTS / file).read_text(encoding="utf-8")
        assert not test or re.search(rf"^def {test}\(", text, re.MULTILINE), name
