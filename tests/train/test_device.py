import pytest
import torch

from bitsearch.errors import InputError
from bitsearch.train.device import device_report, find_device


def test_the_cpu_is_always_there():
    assert find_device("cpu") == torch.device("cpu")
    assert device_report()[0][0] == "cpu"


@pytest.mark.parametrize(("threads", "words"), [(1, "1 thread"), (2, "2 threads")])
def test_threads_of_the_cpu_are_counted(threads, words, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert device_report()[0] == ("cpu", words)


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("auto") == torch.device("cuda")


@pytest.mark.parametrize(
    "name", ["banana", "", "cuda:-1", "cpu gpu", "CPU", "cuda:99999", "meta", "privateuseone", "xla", "cpu\n"]
)
def test_another_name_of_a_device_is_refused_with_those_there_are(name):
    with pytest.raises(InputError) as caught:
        find_device(name)
    assert str(caught.value) == f"device is {name!r}; allowed: auto, cpu, cuda, cuda:N, mps"


def test_a_gpu_by_another_name_is_told_its_own():
    with pytest.raises(InputError, match=r"device is 'gpu'; allowed: .*mps; a GPU is cuda, or mps on a Mac$"):
        find_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_one_line():
    for name in ("cuda", "cuda:99"):
        with pytest.raises(InputError) as caught:
            find_device(name)
        assert str(caught.value) == f"device {name!r} is not there, or torch was built without it; here: cpu"
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
