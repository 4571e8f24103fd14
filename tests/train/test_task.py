import pytest
import torch

from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.errors import InputError
from bitsearch.models import make_network
from bitsearch.space import SearchSpace
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


@pytest.fixture
def events_space():
    return SearchSpace(name="events", network="digits_events_cnn", data="digits_events", data_options={"frames": 6})


def test_time_steps_follow_the_frames_of_the_data(events_space):
    space = events_space.model_copy(
        update={
            "follow_frames": ("choices", "baseline", "start", "first_layer"),
            "first_layer": FirstLayer(time_steps=1),
        }
    )
    with pytest.warns(UserWarning, match="the data have 6 frames: up to 6 time steps a layer, 6 to begin with"):
        task = load_task(space, device="cpu")
    assert task.space.choices.time_steps.values == (1, 2, 3, 4, 5, 6)
    assert task.space.baseline.time_steps == task.space.allocation.start.time_steps == 6
    assert task.space.follow_frames is None
    plan = task.rules.nearest(task.model, task.space.allocation.start, granularity="layer")
    assert {layer.time_steps for layer in plan.values()} == {6}


def test_what_does_not_follow_the_frames_stays(events_space):
    choices = Choices(time_steps=Span(low=1, high=2))
    with pytest.warns(UserWarning, match="6 frames"):
        task = load_task(
            events_space.model_copy(update={"follow_frames": ("baseline",), "choices": choices}), device="cpu"
        )
    assert task.space.choices == choices
    assert task.space.baseline.time_steps == 6


def test_images_have_no_frames_to_follow(tiny_space):
    space = tiny_space.model_copy(update={"follow_frames": ("choices", "baseline")})
    task = load_task(space, device="cpu")
    assert task.space == tiny_space
