import json

import pytest
import torch
from torch import nn

from bitsearch import quantize
from bitsearch.cli import main
from bitsearch.plan import Accuracy


def call(arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bitsearch", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def save_plans(tmp_path, network_of_three_layers):
    torch.manual_seed(0)
    network = quantize(network_of_three_layers, torch.rand(4, 8))
    plan = network.plan(accuracy=Accuracy(validation=0.5))
    name = list(plan.layers)[1]
    other = plan.model_copy(
        update={"layers": plan.layers | {name: plan.layers[name].with_bits(3, (2, 1))}, "accuracy": Accuracy()}
    )
    plan.save(tmp_path / "a.json")
    other.save(tmp_path / "b.json")


def mlp():
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))


def test_two_plans_stand_side_by_side(tmp_path, monkeypatch, capsys):
    save_plans(tmp_path, mlp())
    monkeypatch.chdir(tmp_path)
    assert call(["diff", "a.json", "b.json"], monkeypatch) == 0
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert "2 w4 s4 T2 w3 s2,1 T2" in lines
    assert "validation accuracy 50.00 % —" in lines
    assert not any(line.startswith(("0 w", "4 w")) for line in lines)
    assert "layers with the same bits: 2" in lines


def test_plans_without_a_common_layer_are_of_other_networks(tmp_path, monkeypatch, capsys):
    save_plans(tmp_path, mlp())
    content = json.loads((tmp_path / "b.json").read_text())
    content["layers"] = {f"other.{name}": layer for name, layer in content["layers"].items()}
    (tmp_path / "b.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    assert call(["diff", "a.json", "b.json"], monkeypatch) == 2
    assert "a.json is a plan of 'network' and b.json of 'network', and no layer" in capsys.readouterr().err


def test_plans_of_two_networks_are_told_apart(tmp_path, monkeypatch, capsys):
    save_plans(tmp_path, mlp())
    content = json.loads((tmp_path / "b.json").read_text())
    (tmp_path / "b.json").write_text(json.dumps(content | {"network": "another"}))
    monkeypatch.chdir(tmp_path)
    assert call(["diff", "a.json", "b.json"], monkeypatch) == 0
    assert "plans of two networks, 'network' and 'another'" in " ".join(capsys.readouterr().out.split())
