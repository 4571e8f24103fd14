import sys

import pytest

from bitsearch.cli import main
from bitsearch.models import NETWORKS


def test_the_list_has_every_network_with_its_options_and_spaces(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bitsearch", "networks", "list"])
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[::3]] == list(NETWORKS)
    entries = {line.split("  ")[0]: lines[at : at + 3] for at, line in enumerate(lines)}
    assert entries["digits_events_cnn"] == [
        "digits_events_cnn  8×2×8×8, 10 classes, or as the data are; options: width=16, neuron=relu",
        "  digits_cnn on every frame of events: [T, N, C, H, W] to [T, N, classes].",
        "  search spaces: digits_events, digits_events_nir, n_mnist",
    ]
    assert entries["resnet34"][0] == "resnet34  3×224×224, 1,000 classes, or as the data are; no options"
    assert entries["resnet34"][2] == "  in no search space that is shipped"
