"""The page of sensitivities, and the panel on a run's page."""

import json
import re

import pandas as pd
import pytest

from bitsearch.allocation.sensitivity.records import Sensitivities, WidthLoss
from bitsearch.errors import InputError
from bitsearch.report import write_report
from bitsearch.report.sensitivity_figures import sensitivity_curves_figure, sensitivity_heat_figure
from bitsearch.report.sensitivity_page import write_sensitivity

SEARCHED = ("conv2", "conv3", "conv4", "classifier")


def width(layer, number, value, increase, cause="rounding", **changes):
    fields = {
        "layer": layer,
        "number": number,
        "value": value,
        "increase": increase,
        "standard_error": 0.01,
        "divergence": abs(increase),
        "predicted": increase / 2,
        "score": 0.9,
        "cause": cause,
        "levels": 3,
        "clipping": 0.1,
        "rounding": 0.2,
        "binning": 0.0,
        "silent": None,
        "saturated": None,
    }
    return WidthLoss(**fields | changes)


def sensitivities(run_folder, names=SEARCHED, **changes):
    settings = run_folder.settings
    widths = []
    for index, name in enumerate(names):
        for bits in (1, 2, 4):
            widths.append(width(name, "weight_bits", bits, (index + 1) * 0.3 / bits**2))
            widths.append(width(name, "spike_bits", bits, -0.001, silent=0.5, saturated=0.25))
        widths.append(width(name, "time_steps", 1, 0.05, "time binning", predicted=None, binning=0.3))
    fields = {
        "space": settings.space.name,
        "network": settings.space.network,
        "score_kind": settings.score,
        "samples": 100,
        "seed": 0,
        "loss": 0.25,
        "score": 0.95,
        "finest": {},
        "widths": tuple(widths),
        "bitsearch": "0.1",
        "command": "bitsearch sensitivity",
    }
    return Sensitivities(**fields | changes)


def island(page, name):
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', page)[1])


def test_the_page_holds_what_was_measured(run_folder, tmp_path):
    measured = sensitivities(run_folder)
    page, table, numbers = write_sensitivity(measured, tmp_path / "new" / "folder")
    assert Sensitivities.load(numbers) == measured
    assert len(pd.read_csv(table)) == len(measured.widths)
    html = page.read_text(encoding="utf-8")
    assert html.rstrip().endswith("</html>")
    heat = island(html, "sensitivity-heat-data")["data"][0]
    assert len(heat["y"]) == len(SEARCHED)
    assert "time binning" in html
    # No more than two standard errors of noise: no row, and no word of a cause that does not occur.
    assert "<td>s 1</td>" not in html
    assert "dead neurons" not in html.lower()


def test_the_worst_layer_is_on_top(run_folder):
    measured = sensitivities(run_folder)
    assert measured.layers == list(reversed(SEARCHED))
    figure = sensitivity_heat_figure(measured)
    assert figure.layout.yaxis.ticktext[0] == SEARCHED[-1]
    assert figure.data[0].text[0][0] == f"{measured.worst(SEARCHED[-1]).increase:.2f}"


def test_curves_have_bars_of_their_standard_errors_and_dotted_predictions(run_folder):
    measured = sensitivities(run_folder)
    figure = sensitivity_curves_figure(measured)
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(lines) == 3 * len(SEARCHED)
    assert set(lines[0].error_y.array) == {0.01}
    dotted = [trace for trace in figure.data if trace.line.dash == "dot"]
    assert len(dotted) == 3 * len(SEARCHED)
    # The eighth layer and those behind it share one colour.
    many = sensitivities(run_folder, [f"layer{index}" for index in range(20)])
    traces = sensitivity_curves_figure(many).data
    assert len({trace.name for trace in traces if trace.showlegend}) == 7


def test_the_panel_is_on_the_page_of_the_run_that_was_measured(run_folder):
    assert "sensitivity-title" not in write_report(run_folder).read_text(encoding="utf-8")
    paths = write_sensitivity(sensitivities(run_folder), run_folder.path)
    assert paths[-1] == run_folder.report_file
    html = run_folder.report_file.read_text(encoding="utf-8")
    assert "sensitivity-title" in html
    assert island(html, "sensitivity-curves-data")["data"]


def test_what_is_of_another_network_is_refused(run_folder):
    measured = sensitivities(run_folder, network="other")
    with pytest.raises(InputError, match="give another folder"):
        write_sensitivity(measured, run_folder.path)
    assert not run_folder.sensitivity_file.exists()
    measured.save(run_folder.sensitivity_file)
    with pytest.raises(InputError, match="not of this run's"):
        write_report(run_folder)


def test_names_are_escaped(run_folder, tmp_path):
    name = "</script><script>window.__pwned=1</script>"
    page, *_ = write_sensitivity(sensitivities(run_folder, [name]), tmp_path)
    assert name not in page.read_text(encoding="utf-8")
