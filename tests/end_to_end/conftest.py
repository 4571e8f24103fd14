from types import SimpleNamespace

import pytest

from bitsearch.cli import main


@pytest.fixture
def call(monkeypatch, capsys):
    """Run ``bitsearch …`` in a folder, in this process, which has torch already: as :func:`subprocess.run` does it."""

    def run(*arguments, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr("sys.argv", ["bitsearch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=ended.value.code, stdout=printed.out, stderr=printed.err)

    return run
