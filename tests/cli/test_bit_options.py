import pytest

from bitsearch.choices import Span
from bitsearch.cli.bit_options import bit_settings
from bitsearch.cli.space_options import space_from_options
from bitsearch.errors import InputError
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace


def bits(weight_bits, spike_bits, time_steps):
    return UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=time_steps)


def space_with(**options):
    return space_from_options("digits", **options)


@pytest.mark.filterwarnings("ignore:spikes have")
@pytest.mark.parametrize(
    ("options", "spikes", "steps", "baseline", "start"),
    [
        ({"spikes": "binary"}, (1, 1), (1, 4), bits(8, 1, 2), bits(4, 1, 2)),
        ({"spikes": "1..3"}, (1, 3), (1, 4), bits(8, 3, 2), bits(4, 3, 2)),
        ({"spikes": "6 .. 8"}, (6, 8), (1, 4), bits(8, 6, 2), bits(4, 6, 2)),
        ({"time_steps": "4"}, (1, 8), (4, 4), bits(8, 4, 4), bits(4, 4, 4)),
        ({"time_steps": "2..8"}, (1, 8), (2, 8), bits(8, 4, 8), bits(4, 4, 8)),
        ({"spikes": "binary", "time_steps": "8"}, (1, 1), (8, 8), bits(8, 1, 8), bits(4, 1, 8)),
    ],
)
def test_choices_start_and_baseline_go_together(options, spikes, steps, baseline, start):
    space = space_with(**options)
    assert space.choices.spike_bits == Span(low=spikes[0], high=spikes[1])
    assert space.choices.time_steps == Span(low=steps[0], high=steps[1])
    assert (space.baseline, space.allocation.start) == (baseline, start)
    assert space.choices.weight_bits == SearchSpace.load("digits").choices.weight_bits


def test_neither_option_changes_nothing():
    assert bit_settings(SearchSpace.load("digits"), None, None) == []


def test_the_first_layers_input_coding_is_said():
    with pytest.warns(
        UserWarning, match="spikes have 1 bit; the first layer reads the data themselves, rounded to 6 bi"
    ):
        space_with(spikes="binary", overrides=["first_layer.spike_bits=6"])


@pytest.mark.filterwarnings("ignore:spikes have")
def test_a_setting_has_the_last_word():
    assert space_with(spikes="binary", overrides=["baseline.spike_bits=4"]).baseline == bits(8, 4, 2)


def test_time_steps_that_were_asked_for_do_not_follow_the_datas_frames():
    space = space_from_options(None, data="mydata:frames", time_steps="4")
    assert space.follow_frames == ("first_layer",)


@pytest.mark.parametrize("text", ["", "0", "9", "binary!", "1..9", "3..2", "1.5", "-1", "1,2"])
def test_spikes_that_no_layer_can_have_are_refused(text):
    with pytest.raises(InputError, match=r"^--spikes is .*; give binary, or 1 to 8 bits such as 2 or 1\.\.4$"):
        space_with(spikes=text)


@pytest.mark.parametrize("text", ["", "0", "100001", "4..", "8..2", "four"])
def test_time_steps_that_no_layer_can_have_are_refused(text):
    with pytest.raises(InputError, match=r"^--time-steps is .*; give 1 to 100,000 steps such as 4 or 2\.\.8$"):
        space_with(time_steps=text)
