import pytest
import torch

from bitsearch.errors import InputError
from bitsearch.train.device import device_report, find_device


def test_the_cpu_is_always_there():
    assert find_device("cpu") == torch.device("cpu")
    assert device_report()[0][0] == "cpu"


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["banana", "", "cuda:99", "cuda:-1", "cpu gpu", "CPU"])
def test_a_device_that_cannot_be_used_is_refused_in_one_line(name):
    with pytest.raises(InputError) as caught:
        find_device(name)
    assert f"device {name!r} cannot be used" in str(caught.value)
    assert "allowed: auto, cpu, cuda" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_one_line():
    with pytest.raises(InputError) as caught:
        find_device("cuda")
    assert "device 'cuda' cannot be used" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "none that torch can use" in dict(device_report())["GPU"]


def test_one_of_two_processes_takes_a_gpu_of_its_own(monkeypatch):
    variables = {"WORLD_SIZE": 2, "RANK": 1, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}
    for name, value in {**variables, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="each a GPU of its own"):
        find_device("cuda:1")
    monkeypatch.setattr(torch, "empty", lambda *shape, device: None)
    assert find_device("cuda") == torch.device("cuda:1")
