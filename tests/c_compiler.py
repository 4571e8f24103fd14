"""Tests that need a C compiler are skipped where there is none."""

import shutil

import pytest

from bitsearch.deploy.formats.c.compiled import COMPILERS

C_COMPILER = any(map(shutil.which, COMPILERS))
needs_compiler = pytest.mark.skipif(not C_COMPILER, reason=f"no C compiler: install one of {', '.join(COMPILERS)}")
