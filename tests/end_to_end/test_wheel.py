"""The wheel, installed into an environment without the checkout, has every public name and every shipped file."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import bitsearch

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]

SCRIPT = """
import bitsearch
print(bitsearch.__file__)
for name in bitsearch.__all__:
    getattr(bitsearch, name)
from bitsearch.report.page import page_part
from bitsearch.space import shipped_spaces
assert page_part("page.js") and bitsearch.Target.names()
print(*sorted(shipped_spaces()))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The Python of a new environment: the wheel, then the packages of this environment without its .pth files."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    subprocess.run([*pip, *build], check=True, timeout=120)
    venv.create(folder / "venv", with_pip=False, symlinks=os.name == "posix")
    bin_folder = folder / "venv" / ("bin" if os.name == "posix" else "Scripts")
    python = bin_folder / Path(sys.executable).name
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True, timeout=120)
    variables = {"base": folder / "venv", "platbase": folder / "venv"}
    packages = Path(sysconfig.get_path("purelib", scheme="venv", vars=variables))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def test_every_public_name_is_imported_from_the_wheel_in_an_empty_folder(installed, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [installed, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment,
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    )
    path, spaces = result.stdout.splitlines()
    assert Path(path).is_relative_to(installed.parents[1])
    assert not Path(path).is_relative_to(Path(bitsearch.__file__).parent)
    assert spaces.split() == sorted(file.stem for file in (ROOT / "search_spaces").glob("*.toml"))
