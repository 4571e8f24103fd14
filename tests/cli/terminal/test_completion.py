import sys

import pytest

from bitsearch.cli import main


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["run", "--space", "digits"], ["digits", "digits_events", "digits_events_nir"]),
        (["run", "--target", "a"], ["akida_1000", "artix_7"]),
        (["run", "--objective", "s"], ["s_ace", "synops"]),
        (["compare", "--metric", "en"], ["energy"]),
        (["run", "--method", "r"], ["ramp", "random", "refine"]),
        (["run", "--model", "sew"], ["sew_resnet18", "sew_resnet34"]),
        (["data", "check", "cifar10"], ["cifar10", "cifar100", "cifar10_dvs"]),
        (["data", "check", "mine:make", "--task", "s"], ["segmentation", "sequence"]),
        (["profile", "shd"], ["shd_mlp"]),
        (["targets", "show", "g"], ["generic"]),
        (["evaluate", "run", "--split", "t"], ["test", "train"]),
        (["deploy", "run", "--format", "h"], ["hub-folder"]),
        (["train", "run", "--device", "c"], ["cpu", "cuda"]),
        (["rep"], ["report"]),
    ],
)
def test_a_shell_offers_the_values_there_are(words, offered, monkeypatch, capsys):
    monkeypatch.setenv("_BITSEARCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["bitsearch", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setattr(sys, "argv", ["bitsearch"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert sorted(set(capsys.readouterr().out.split())) == offered
