import io
import json
import shutil
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
            # Warnings are for the user to read, those of settings by old names too.
            warnings.simplefilter("default", UserWarning)
            warnings.simplefilter("default", FutureWarning)
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


@pytest.fixture(scope="module")
def copied_run(finished_run, tmp_path_factory):
    """A folder with a run in ``run``, and the chosen plan's weights beside it, which a test may change."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(finished_run.folder.path, folder / "run")
    trial = json.loads((folder / "run" / "plan.json").read_text())["provenance"]["trial"]
    shutil.copy(folder / "run" / "weights" / f"trial-{trial:04d}.safetensors", folder / "weights.safetensors")
    return folder


def _lies_in(folder, module):
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(Path(folder).resolve())
