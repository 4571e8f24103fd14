import pytest

from bitsearch.errors import InputError
from bitsearch.report.paper import latex, markdown, parse_formats, write_paper

MAGIC = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}


def test_formats():
    assert parse_formats("pdf, SVG,pdf") == ["pdf", "svg"]
    for wrong in ("", "gif", "pdf,eps"):
        with pytest.raises(InputError, match="give some of pdf, svg, png"):
            parse_formats(wrong)


def test_every_figure_in_every_format_and_the_same_each_time(run_folder):
    paths = write_paper(run_folder, ["pdf", "svg", "png"])
    stems = {path.stem for path in paths if path.suffix[1:] in MAGIC}
    assert stems == {"front", "plan", "bits", "curves"}
    first = {path: path.read_bytes() for path in paths}
    for path, content in first.items():
        assert content.startswith(MAGIC.get(path.suffix[1:], b""))
    assert {path: path.read_bytes() for path in write_paper(run_folder, ["pdf", "svg", "png"])} == first
    words = (run_folder.path / "figures" / "front.svg").read_text(encoding="utf-8")
    assert "Validation accuracy (%)" in words
    assert "budget 4x" in words


def test_names_of_layers_are_text_in_a_figure(make_run_folder):
    names = ("$x_1$", "</svg><script>alert(1)</script>", r"\frac", "a & b", "ok")
    folder = make_run_folder(names=names)
    write_paper(folder, ["svg"])
    words = (folder.path / "figures" / "plan.svg").read_text(encoding="utf-8")
    assert "$x_1$" in words
    assert "<script" not in words


def test_tables_escape_what_their_language_reads():
    rows = [["a_b & 50\N{NO-BREAK SPACE}%", "—"]]
    tex = latex(["Plan", "Bit Budget W̄·S̄·T̄ (bits)"], rows)
    assert r"a\_b \& 50 \% & -- \\" in tex
    assert r"Bit Budget (bits)" in tex
    assert markdown(["a|b", "c"], [["<img>", "x\ny"]]) == "| a\\|b | c |\n|---|---:|\n| &lt;img> | x y |\n"
