import io
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest

from bitsearch.cli import main


@pytest.fixture(scope="session")
def call():
    """Run ``bitsearch …`` in a folder, in this process, which has torch already: as :func:`subprocess.run` does it.

    Each call imports the folder's own modules anew, as a process of its own would.
    """

    def run(*arguments, cwd, columns=120):
        printed, errors, known = io.StringIO(), io.StringIO(), set(sys.modules)
        with (
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(),
            redirect_stdout(printed),
            redirect_stderr(errors),
        ):
            # Warnings are for the user to read.
            warnings.simplefilter("default", UserWarning)
            patch.chdir(cwd)
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(sys, "argv", ["bitsearch", *map(str, arguments)])
            patch.setattr(sys, "path", [*sys.path])
            with pytest.raises(SystemExit) as ended:
                main()
        for name in set(sys.modules) - known:
            if _lies_in(cwd, sys.modules[name]):
                del sys.modules[name]
        return SimpleNamespace(returncode=ended.value.code, stdout=printed.getvalue(), stderr=errors.getvalue())

    return run


def _lies_in(folder, module):
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(Path(folder).resolve())
