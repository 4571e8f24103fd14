import csv
import io
import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsearch.errors import InputError, StorageError
from bitsearch.files import csv_text, refuse_links, write_whole

FORMULA_STARTS = tuple("=+-@\t\r\n")
"""OWASP's list of what a spreadsheet computes."""


@given(st.lists(st.text(min_size=1), min_size=1, unique=True), st.text())
def test_no_cell_of_a_csv_file_starts_like_a_formula(titles, text):
    rows = list(csv.reader(io.StringIO(csv_text(pd.DataFrame([[text] * len(titles)], columns=titles)))))
    assert len(rows) == 2
    assert not [cell for row in rows for cell in row if cell.startswith(FORMULA_STARTS)]


def test_numbers_and_ordinary_names_are_written_as_they_are():
    table = pd.DataFrame({"layer": ["conv1", "=1+1", "-x"], "cost": [-1.5, 2.0, float("nan")], "T": [1, 2, 3]})
    assert csv_text(table) == "layer,cost,T\nconv1,-1.5,1\n'=1+1,2.0,2\n'-x,,3\n"


def link(path, target):
    path.symlink_to(target)


def pipe(path, target):
    os.mkfifo(path)


@pytest.mark.parametrize("make", [link, pipe])
@pytest.mark.parametrize("name", ["pareto.html", "plans/trial-0000.json", "figures"])
def test_a_folder_with_a_link_or_a_pipe_is_refused_by_name(make, name, tmp_path):
    folder = tmp_path / "run"
    (folder / "plans").mkdir(parents=True)
    refuse_links(folder)
    make(folder / name, tmp_path)
    with pytest.raises(InputError, match=f"{name} is .*put a copy in its place, or delete it"):
        refuse_links(folder)


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "run").mkdir()
    link(tmp_path / "latest", tmp_path / "run")
    refuse_links(tmp_path / "latest")
    refuse_links(tmp_path / "missing")


def test_nothing_is_written_through_a_link_that_waits_in_a_drafts_place(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    link(tmp_path / f".draft-plan.json.{os.getpid()}", victim)
    link(tmp_path / "plan.json", victim)
    write_whole(tmp_path / "plan.json", "new")
    assert victim.read_text() == "mine"
    assert (tmp_path / "plan.json").read_text() == "new"
    assert not (tmp_path / "plan.json").is_symlink()


@pytest.mark.parametrize("path", [Path(), Path("/")])
def test_a_path_without_a_name_is_refused_in_one_line(path):
    with pytest.raises(StorageError, match=f"^cannot write {path}: it is a folder; give the name of a file$"):
        write_whole(path, "")
