import pytest
import torch

from bitsearch.choices import FirstLayer
from bitsearch.errors import InputError
from bitsearch.models import make_network
from bitsearch.train import task as task_module
from bitsearch.train.task import load_task


def test_the_untrained_network_is_made_once_and_copied(tiny_space, monkeypatch):
    made = []

    def counting(*arguments, **options):
        made.append(make_network(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(task_module, "make_network", counting)
    task = load_task(tiny_space, seed=5, device="cpu")
    fresh = task.fresh_network()
    assert {row.became for row in task.conversion()} >= {"a quantized layer"}
    assert len(made) == 1
    torch.manual_seed(5)
    expected = make_network(
        tiny_space.network,
        tiny_space.network_options,
        input_shape=task.splits.input_shape,
        classes=task.splits.classes,
    ).state_dict()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1.0)
    for network in (task.untrained, task.fresh_network()):
        assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_the_first_layer_is_checked_before_anything_is_loaded(tiny_space, monkeypatch):
    monkeypatch.setattr(task_module, "load_data", lambda *_, **__: pytest.fail("loaded"))
    space = tiny_space.model_copy(update={"target": "power_of_two", "first_layer": FirstLayer(weight_bits=5)})
    with pytest.raises(InputError, match=r"first_layer\.weight_bits is 5"):
        load_task(space, device="cpu")
