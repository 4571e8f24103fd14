import pytest

from bitsearch.errors import InputError
from bitsearch.report.paper import front, latex, markdown, parse_formats, write_paper

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
    chosen = [line for line in (run_folder.path / "figures" / "table.tex").read_text().splitlines() if "chosen" in line]
    assert len(chosen) == 1
    # Weights 8, 4, 3, 2, 6; spikes 8, 3.5, 3, 2.5, 3.5; steps 1, 2, 1, 2, 2.
    assert chosen[0].startswith("Adaptive (chosen) & mean w4.6 s4.1 T1.6 & 98.61")


@pytest.mark.parametrize("most", [3.0, 60.0])
def test_the_axis_of_the_front_has_enough_ticks(run_folder, most):
    plans = run_folder.plans()
    costs = [2.0 + (most - 2.0) * index / (len(plans) - 1) for index in range(len(plans))]
    moved = [plan.model_copy(update={"costs": {"bit_budget": cost}}) for plan, cost in zip(plans, costs, strict=True)]
    settings = run_folder.settings.model_copy(update={"budgets": ()})
    figure = front(moved, moved[9], settings, moved[3])
    figure.canvas.draw()
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    seen = [label for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True) if low <= tick <= high]
    texts = [label.get_text() for label in seen]
    assert len(texts) == len(set(texts)) >= 4
    assert "within 1 SE" in [text.get_text() for text in figure.legends[0].get_texts()]


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
