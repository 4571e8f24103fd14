import pytest

from bitsearch.cli import main
from bitsearch.cli.space_options import is_space, space_from_options
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.space import SearchSpace
from bitsearch.validation import to_toml


def test_nothing_asked_is_the_default_space():
    assert space_from_options(None) == SearchSpace.load("digits")
    assert space_from_options("cifar10_folder") == SearchSpace.load("cifar10_folder")


def test_another_network_brings_its_own_options_and_none_of_the_spaces():
    space = space_from_options(
        "digits", model="mynets:csnn", model_args=["steps=4", "neuron=lif", "rate=1e-3", "norm=true"]
    )
    assert space.network == "mynets:csnn"
    assert space.network_options == {"steps": 4, "neuron": "lif", "rate": 1e-3, "norm": True}
    assert (space.name, space.data) == ("digits", "digits")
    assert space_from_options("digits", model="resnet20").network_options == {}


def test_options_alone_join_those_of_the_space():
    assert space_from_options("digits", model_args=["depth=3"]).network_options == {"width": 16, "depth": 3}
    assert space_from_options("digits", model_args=["width=8"]).network_options == {"width": 8}
    assert space_from_options("digits", data="mydata:images", data_args=["side=8"]).data_options == {"side": 8}


@pytest.mark.parametrize(
    ("model", "data", "name"),
    [
        ("mynets:csnn", "mydata:images", "mynets-csnn"),
        ("my_package.nets:CSNN", None, "my_package.nets-CSNN"),
        (None, "mydata:images", "mydata-images"),
        ("resnet20", None, "resnet20"),
        (".odd/:name", None, "odd-name"),
        ("::", None, "digits"),
    ],
)
def test_without_a_space_the_run_is_named_after_what_is_the_users(model, data, name):
    space = space_from_options(None, model=model, data=data)
    assert space.name == name
    assert space.training == SearchSpace.load("digits").training
    assert SearchSpace.model_validate(space.model_dump(exclude_none=True)) == space


def test_settings_of_the_whole_space_have_the_last_word():
    space = space_from_options(None, model="mynets:csnn", model_args=["steps=4"], overrides=["network_options.steps=2"])
    assert space.network_options == {"steps": 2}
    assert space_from_options(None, model="mynets:csnn", overrides=["name=mine"]).name == "mine"


def test_step_sizes_are_a_setting_of_the_quantizer():
    space = space_from_options("digits", step_sizes="power_of_two")
    assert space.allocation.quantizer.step_sizes == "power_of_two"
    assert space_from_options("digits").allocation.quantizer.step_sizes == "free"
    with pytest.raises(InputError, match=r"allocation\.quantizer\.step_sizes is 'shifts': Input should be 'free'"):
        space_from_options("digits", step_sizes="shifts")


def test_layer_rules_stand_behind_those_of_the_space():
    space = space_from_options(
        None, overrides=['layers=[{match="*",weight_bits=2}]'], layers=["conv*:weight_bits=[2, 4]", "fc:time_steps=1"]
    )
    assert space.layers == (
        LayerRule(match="*", weight_bits=2),
        LayerRule(match="conv*", weight_bits=[2, 4]),
        LayerRule(match="fc", time_steps=1),
    )
    assert SearchSpace.model_validate(space.model_dump(exclude_none=True)) == space
    assert SearchSpace.from_toml(to_toml(space)) == space


@pytest.mark.parametrize("arg", ["steps", "=4", " =4", ""])
def test_an_option_of_another_form_is_refused(arg):
    with pytest.raises(InputError, match="give KEY=VALUE, such as width=16"):
        space_from_options("digits", model_args=[arg])


def test_what_is_a_space():
    assert is_space("digits")
    assert is_space("folder/my.toml")
    assert not is_space("resnet20")
    assert not is_space("mynets:csnn")


def test_the_options_reach_the_search(monkeypatch):
    given = []

    def stopped(space, budget, **options):
        given.append(space)
        raise InputError("enough")

    monkeypatch.setattr("bitsearch.study.run.search", stopped)
    arguments = [
        "--model",
        "mynets:csnn",
        "--model-arg",
        "steps=4",
        "--model-arg",
        "width=2",
        "--data",
        "mydata:images",
    ]
    monkeypatch.setattr("sys.argv", ["bitsearch", "run", *arguments, "--data-arg", "side=8"])
    with pytest.raises(SystemExit):
        main()
    (space,) = given
    assert (space.name, space.network, space.data) == ("mynets-csnn", "mynets:csnn", "mydata:images")
    assert (space.network_options, space.data_options) == ({"steps": 4, "width": 2}, {"side": 8})


def test_time_steps_follow_the_frames_of_data_of_the_users_own():
    space = space_from_options(None, data="mydata:events")
    assert space.follow_frames == ("choices", "baseline", "start", "first_layer")
    settings = ["choices.time_steps.high=2", "first_layer.time_steps=1"]
    assert space_from_options(None, data="mydata:events", overrides=settings).follow_frames == ("baseline", "start")
    assert space_from_options(None).follow_frames is None
    assert space_from_options("digits", data="mydata:events").follow_frames is None


def test_the_first_layers_bits_may_fall_for_a_network_that_comes_without_a_space():
    assert space_from_options(None, model="mynets:mlp").first_layer.relax
    assert space_from_options(None, data="mydata:images").first_layer.relax
    assert not space_from_options(None, model="mynets:mlp", overrides=["first_layer.weight_bits=6"]).first_layer.relax
    assert not space_from_options("digits", model="mynets:mlp").first_layer.relax
    assert not space_from_options(None).first_layer.relax


def test_ties_come_behind_those_of_the_space():
    space = space_from_options(
        None,
        overrides=['ties=[{match="*",share=["weight_bits"]}]'],
        ties=["conv3,conv4:spike_bits,time_steps", "streams"],
    )
    assert space.ties == (
        TieRule(match="*", share=["weight_bits"]),
        TieRule(match=["conv3", "conv4"], share=["spike_bits", "time_steps"]),
        TieRule(share="streams"),
    )
