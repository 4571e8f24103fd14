import os
import time
import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from bitsearch.errors import InputError, located, one_line, printable, user_fault


def raised_by(function, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function(*arguments)
    return caught.value


def run_file(path, text):
    path.write_text(text, encoding="utf-8")
    return raised_by(lambda: exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), {}))


def test_the_innermost_place_in_the_users_own_code_is_named(tmp_path, monkeypatch):
    text = "import torch\n\ndef inner():\n    torch.zeros(2) + torch.zeros(3)\n\ninner()\n"
    error = run_file(tmp_path / "own.py", text)
    monkeypatch.chdir(tmp_path)
    assert located(error).startswith("own.py:4: RuntimeError: The size of tensor a (2) must match")


def test_calls_into_python_and_packages_are_laid_at_the_users_door(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = run_file(tmp_path / "own.py", "import json\njson.loads('{')\n")
    assert located(error).startswith("own.py:2: JSONDecodeError: ")


def test_a_file_elsewhere_keeps_its_whole_path(tmp_path):
    error = run_file(tmp_path / "own.py", "assert False\n")
    assert located(error) == f"{tmp_path / 'own.py'}:1: AssertionError"


def test_a_syntax_error_names_the_line_that_never_ran(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = run_file(tmp_path / "own.py", "x = 1\ndef broken(:\n")
    assert located(error) == "own.py:2: SyntaxError: invalid syntax"


def test_many_lines_become_one_and_long_ones_are_cut(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = run_file(tmp_path / "own.py", "raise ValueError('first\\n\\tsecond')\n")
    assert located(error) == "own.py:1: ValueError: first second"
    error = run_file(tmp_path / "own.py", "raise ValueError('x' * 5000)\n")
    assert len(located(error)) < 700
    assert located(error).endswith("…")


def test_an_exception_that_has_no_words_is_named_by_its_class():
    class SilentError(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    assert located(SilentError()) == "SilentError"


def test_without_frames_there_is_only_the_message():
    assert located(KeyError("width")) == "KeyError: 'width'"


def test_input_errors_are_value_errors():
    assert issubclass(InputError, ValueError)


@given(st.text())
def test_printable_text_has_no_character_that_a_terminal_acts_on(text):
    kinds = {unicodedata.category(character) for character in printable(text)}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("txt.\u202egnp", r"txt.\u202egnp"),
        ("98.06\xa0% · für µJ – ≤ 3", "98.06\xa0% · für µJ – ≤ 3"),
    ],
)
def test_what_is_text_stays_as_it_is(text, shown):
    assert printable(text) == shown


def test_a_message_is_one_line_without_passwords():
    text = "cannot open postgresql://ann:secret@host/db:\r\n\x1b]0;title\x07"
    assert one_line(text) == r"cannot open postgresql://ann:***@host/db: \x1b]0;title\x07"


def test_faults_of_user_code_are_told_apart_from_those_of_bitsearch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert user_fault(run_file(tmp_path / "own.py", "raise KeyError('width')\n")) == "own.py:1: KeyError: 'width'"

    def ends():
        exec(compile("import sys\nsys.exit(3)\n", str(tmp_path / "own.py"), "exec"), {})

    with pytest.raises(SystemExit) as caught:
        ends()
    assert user_fault(caught.value) == "own.py:2: SystemExit: 3"


def test_what_passed_through_a_generator_is_still_the_users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile("def forward():\n    raise StopIteration(3)\n", str(tmp_path / "own.py"), "exec"), names)

    def batches():
        yield names["forward"]()

    with pytest.raises(RuntimeError, match="generator raised") as caught:
        next(batches())
    assert user_fault(caught.value) == "own.py:2: StopIteration: 3"


def test_a_module_and_its_gradient_are_the_users(monkeypatch):
    monkeypatch.setattr("bitsearch.errors._is_user_code", lambda filename: False)
    x = torch.ones(2, 3, requires_grad=True)
    assert "mat1 and mat2" in user_fault(raised_by(torch.nn.Linear(4, 1), x))
    squared = x.sigmoid()
    loss = (squared * squared).sum()
    with torch.no_grad():
        squared.mul_(2)
    assert "inplace" in user_fault(raised_by(loss.backward))
    assert user_fault(raised_by(lambda: [][0])) is None


class Dying(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        os._exit(3)


def test_a_worker_that_dies_is_the_users_whatever_was_being_done(monkeypatch):
    monkeypatch.setattr("bitsearch.errors._is_user_code", lambda filename: False)
    batches = iter(DataLoader(Dying(), num_workers=1))
    assert "exited unexpectedly with exit code 3" in user_fault(raised_by(time.sleep, 60))
    del batches


def test_what_torch_says_of_its_own_source_is_left_out():
    error = RuntimeError("out of range\nException raised from check at c10.cpp:7 (most recent first):\nframe #0: x")
    assert located(error) == "RuntimeError: out of range"
