"""Samples without labels: plans are judged by what the float network predicts."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from bitsearch.errors import InputError
from bitsearch.post_training.unlabelled import with_predicted_labels

NOTE = "accuracy is the share on which a plan agrees with it"


def predicted(network, inputs):
    with torch.no_grad():
        return network.eval()(inputs).argmax(1)


def bare(samples):
    return TensorDataset(samples.tensors[0])


@pytest.mark.parametrize("form", ["data sets", "loaders"])
def test_labels_are_what_the_network_predicts(form, network, splits):
    training = network.train().training
    parts = [bare(splits.train), bare(splits.validation)]
    data = parts if form == "data sets" else [DataLoader(part, 50) for part in parts]
    with pytest.warns(UserWarning, match=NOTE):
        labelled, missing = with_predicted_labels(network, data, None)
    assert (missing, list(labelled), network.training) == (True, ["train", "validation"], training)
    loaders = labelled.values() if form == "loaders" else [DataLoader(part, 50) for part in labelled.values()]
    for loader, part in zip(loaders, parts, strict=True):
        inputs, labels = (torch.cat(tensors) for tensors in zip(*loader, strict=True))
        assert torch.equal(inputs, part.tensors[0])
        assert torch.equal(labels, predicted(network, inputs))


def test_inputs_alone_are_parted_and_a_quarter_judges(network, splits):
    inputs = splits.train.tensors[0][:41]
    with pytest.warns(UserWarning, match=NOTE):
        labelled, _ = with_predicted_labels(network, inputs, None)
    assert [len(part) for part in labelled.values()] == [31, 10]
    assert torch.equal(labelled["validation"][9][0], inputs[40])


def test_data_with_labels_stay_as_they_are_and_mixed_ones_are_refused(network, splits):
    data = (splits.train, splits.validation)
    assert with_predicted_labels(network, data, None) == (data, False)
    with pytest.raises(InputError, match="validation has no labels, and train has"):
        with_predicted_labels(network, (splits.train, bare(splits.validation)), None)


@pytest.mark.training
def test_an_allocation_without_labels(network, splits, quick, tmp_path):
    inputs = splits.train.tensors[0][:120]
    with pytest.warns(UserWarning, match=NOTE):
        result = quick(network, inputs, "4x", out=tmp_path / "run")
    assert result.folder.settings.full_precision.validation == 1.0
    assert result.best.met
    with pytest.warns(UserWarning, match=NOTE), pytest.raises(InputError, match="no labels to train on"):
        quick(network, inputs, "4x", fine_tune=1, out=tmp_path / "trained")
    assert not (tmp_path / "trained").exists()
