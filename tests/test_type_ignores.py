"""Where the type checker is told to look away, the line says why."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
WITHOUT_REASON = re.compile(r"# type: ignore(\[[^]]*\])?\s*$", re.MULTILINE)


def test_every_ignored_type_has_its_reason():
    files = [*(ROOT / "bitsearch").rglob("*.py"), ROOT / "cli.py"]
    assert len(files) > 300
    assert [path for path in files if WITHOUT_REASON.search(path.read_text())] == []
