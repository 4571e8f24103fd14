import pickle
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from bitsearch.errors import InputError
from bitsearch.models.trained_weights import checksum, load_trained_weights


def network(classes=3):
    torch.manual_seed(1)
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2), flat=nn.Flatten(), head=nn.Linear(8, classes))
    )


def trained():
    one = network()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter += 1
    return one


def equal(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


FORMS = {
    "state": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": state},
    "net": lambda state: {"net": state, "acc": 0.9},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "DataParallel": lambda state: prefixed(state, "module."),
    "compiled in parallel": lambda state: {"state_dict": prefixed(state, "module._orig_mod.")},
    "Lightning": lambda state: {"state_dict": prefixed(state, "model."), "global_step": 4},
    "ordered": OrderedDict,
    "with arguments": lambda state: {"model": state, "args": Namespace(lr=0.1, data="photos")},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_usual_form_of_a_torch_file_is_read(tmp_path, form, legacy):
    source, fresh = trained(), network()
    torch.save(FORMS[form](source.state_dict()), tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    load_trained_weights(fresh, tmp_path / "w.pth")
    assert equal(fresh, source)


@pytest.mark.parametrize("padding", range(0, 512, 8))
def test_safetensors_are_read_whatever_the_length_of_their_header(tmp_path, padding):
    # The length is the file's first byte: it may look like the first one of another format.
    source, fresh = trained(), network()
    save_file(source.state_dict(), tmp_path / "w.safetensors", metadata={"pad": "x" * padding})
    load_trained_weights(fresh, tmp_path / "w.safetensors")
    assert equal(fresh, source)


def test_wrappers_of_the_network_itself_are_not_taken_for_prefixes(tmp_path):
    source, fresh = nn.Sequential(OrderedDict(module=trained())), nn.Sequential(OrderedDict(module=network()))
    torch.save(source.state_dict(), tmp_path / "w.pth")
    load_trained_weights(fresh, tmp_path / "w.pth")
    assert equal(fresh, source)


def test_a_checkpoint_of_a_gpu_is_read_without_one(tmp_path, monkeypatch):
    source, path = trained(), tmp_path / "net.pth"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save({"state_dict": source.state_dict()}, path)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="on a CUDA device but"):
            torch.load(path, weights_only=True)
    fresh = network()
    load_trained_weights(fresh, path)
    assert torch.equal(fresh.conv.weight, source.conv.weight)
    assert fresh.conv.weight.device.type == "cpu"


def test_weights_of_double_precision_are_rounded_to_float32(tmp_path):
    source, path = trained().double(), tmp_path / "net.pth"
    torch.save(source.state_dict(), path)
    fresh = network()
    load_trained_weights(fresh, path)
    assert torch.equal(fresh.conv.weight, source.conv.weight.float())


def test_counts_of_batches_may_be_missing_and_half_precision_is_widened(tmp_path):
    source, fresh = trained(), network()
    state = {name: value.half() for name, value in source.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "w.pth")
    load_trained_weights(fresh, tmp_path / "w.pth")
    assert fresh.conv.weight.dtype == torch.float32
    assert torch.equal(fresh.conv.weight, source.conv.weight.half().float())


def refusal(path, into=None):
    fresh = into or network()
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_trained_weights(fresh, path)
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_named_with_the_nearest_name(tmp_path):
    state = trained().state_dict()
    state["haed.weight"] = state.pop("head.weight")
    torch.save(state, tmp_path / "w.pth")
    message = refusal(tmp_path / "w.pth")
    assert "no 'head.weight' (it has 'haed.weight')" in message
    assert "'haed.weight' is no tensor of the network; did you mean 'head.weight'?" in message


def test_another_first_name_is_told_as_the_file_has_it(tmp_path):
    torch.save({f"features.{name}": value for name, value in trained().state_dict().items()}, tmp_path / "w.pth")
    message = refusal(tmp_path / "w.pth", nn.Sequential(OrderedDict(body=network())))
    assert "no 'body.conv.weight' (it has 'features.conv.weight')" in message


def test_another_number_of_classes_is_told_by_both_shapes(tmp_path):
    torch.save(trained().state_dict(), tmp_path / "w.pth")
    message = refusal(tmp_path / "w.pth", network(classes=5))
    assert "'head.weight' has shape (3, 8), the network's (5, 8)" in message
    assert "'head.bias' has shape (3,)" in message


def test_many_misfits_are_counted(tmp_path):
    torch.save({"a.b": torch.zeros(1)}, tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").endswith("and 6 more")


def test_values_that_are_not_finite_are_refused(tmp_path):
    source = trained()
    with torch.no_grad():
        source.head.bias[1] = float("nan")
    torch.save(source.state_dict(), tmp_path / "w.pth")
    assert "'head.bias' holds values that are not finite" in refusal(tmp_path / "w.pth")


class Unknown:
    pass


def test_no_code_of_a_checkpoint_is_run(tmp_path):
    torch.save({"state_dict": trained().state_dict(), "config": Unknown()}, tmp_path / "w.pth")
    assert "Unknown, which runs code when read" in refusal(tmp_path / "w.pth")
    torch.save({"state_dict": trained().state_dict(), "args": Namespace(own=Unknown())}, tmp_path / "w.pth")
    assert "Unknown, which runs code when read" in refusal(tmp_path / "w.pth")
    torch.save(trained(), tmp_path / "whole.pth")
    assert "write torch.save(network.state_dict(), FILE) instead" in refusal(tmp_path / "whole.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Unknown()))
    assert "cannot be read as weights" in refusal(tmp_path / "plain.pkl")


@pytest.mark.parametrize("content", [{"epoch": 1}, {}, [1, 2], {"state_dict": {"a": 1}}, torch.zeros(2)], ids=str)
def test_a_file_without_a_state_says_what_it_holds(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    assert "holds" in refusal(tmp_path / "w.pth")


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    assert "no weights at" in refusal(tmp_path / "missing.pth")
    assert "cannot read the weights" in refusal(tmp_path)


@given(content=st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"PK\x03\x04" + tail))
def test_any_other_bytes_are_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "w"
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_a_file_cut_short_is_one_line(tmp_path, share, form):
    path = tmp_path / "w"
    save_file(trained().state_dict(), path) if form == "safetensors" else torch.save(trained().state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refusal(path)


def test_the_checksum_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
