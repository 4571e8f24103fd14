import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from bitsearch.cli.terminal.console import Console, print_json, print_line
from bitsearch.cli.terminal.progress import Bars
from bitsearch.errors import printable

HOSTILE = "\x1b]0;title\x1b\\\x9b2J\u202e[link=https://evil.example]:skull:[/nothing]"


def printed(draw, width=200):
    """What a terminal gets, without rich's own sequences."""
    console = Console()
    console.file, console.width, console._color_system = io.StringIO(), width, None
    draw(console)
    return console.file.getvalue()


def in_a_table(console):
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(Text(HOSTILE))
    table.add_row(HOSTILE)
    console.print(table)


@pytest.mark.parametrize("draw", [lambda console: console.print(HOSTILE), in_a_table])
def test_neither_sequences_nor_markup_of_a_text_reach_the_terminal(draw):
    shown = printed(draw)
    assert printable(HOSTILE) in shown
    assert all(printable(line) == line for line in shown.splitlines())


def test_styles_and_bars_of_the_consoles_own_stay():
    console = Console()
    console.file = io.StringIO()
    console._force_terminal = True
    with Bars(console) as bars:
        bars.note(HOSTILE)
        bars.trial(HOSTILE[-9:], 2)
    shown = console.file.getvalue()
    assert printable(HOSTILE) in shown.replace("\n", "")
    assert "\x1b[?25l" in shown


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_is_printable_and_means_the_same(text):
    content = {text: [text, 0.1, None]}
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        print_json(json.dumps(content, ensure_ascii=False, indent=2) + "\n")
    assert json.loads(stream.getvalue()) == content
    assert all(printable(line) == line for line in stream.getvalue().split("\n"))


def test_a_line_is_one_line(capsys):
    print_line("plans/\x1b[2J\n.json")
    assert capsys.readouterr().out == "plans/\\x1b[2J\\n.json\n"
