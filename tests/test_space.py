import warnings
from pathlib import Path

import pytest

from bitsearch.allocation_settings import Allocation
from bitsearch.choices import Choices, Span
from bitsearch.cost.target import Target
from bitsearch.errors import InputError
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace, shipped_spaces
from bitsearch.validation import to_toml

LEAST = 'name = "mine"\nnetwork = "digits_cnn"\ndata = "digits"\n'


def refusal(text):
    """The message of the InputError, checked to be one line."""
    with pytest.raises(InputError) as caught:
        SearchSpace.from_toml(text, source="given.toml")
    message = str(caught.value)
    assert message.startswith("given.toml: ")
    assert len(message.splitlines()) == 1
    return message


def test_the_shipped_space_loads_by_name():
    space = SearchSpace.load("digits")
    assert (space.name, space.network, space.data) == ("digits", "digits_cnn", "digits")
    assert space.metric == "bit_budget"
    assert set(space.search.parameters) <= set(Allocation.types())
    assert "digits" in shipped_spaces()


def test_every_shipped_space_is_valid_and_named_as_its_file():
    for name in shipped_spaces():
        assert SearchSpace.load(name).name == name


def test_a_space_loads_by_path(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(shipped_spaces()["digits"])
    assert SearchSpace.load(file) == SearchSpace.load(str(file)) == SearchSpace.load("digits")


def test_a_path_without_the_toml_ending_is_read_as_a_file(tmp_path):
    (tmp_path / "mine").write_text(LEAST)
    assert SearchSpace.load(tmp_path / "mine").name == "mine"


def test_a_misspelt_name_lists_what_is_shipped():
    with pytest.raises(InputError) as caught:
        SearchSpace.load("digit")
    message = str(caught.value)
    assert "'digit'" in message
    for name in shipped_spaces():
        assert name in message.split("shipped:")[1]
    assert len(message.splitlines()) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no search space at .*missing\.toml"):
        SearchSpace.load(tmp_path / "missing.toml")
    with pytest.raises(InputError, match=r"no search space at missing\.toml"):
        SearchSpace.load("missing.toml")
    with pytest.raises(InputError, match="cannot read the search space"):
        SearchSpace.load(tmp_path)


def test_a_file_of_another_kind_is_called_what_it_is(tmp_path):
    run = tmp_path / "run.toml"
    run.write_text(
        'schema_version = 1\n[baseline_costs]\nbit_budget = 64.0\n[space]\nname = "digits"\n', encoding="utf-8"
    )
    space, target = tmp_path / "space.toml", tmp_path / "chip.toml"
    space.write_text(LEAST, encoding="utf-8")
    target.write_text(Target.load("neuromorphic").to_toml(), encoding="utf-8")
    for load, file, says in (
        (
            SearchSpace.load,
            run,
            f"holds the settings of a run, not a search space; give the run's folder, {tmp_path}, ",
        ),
        (Target.load, run, f"holds the settings of a run, not a hardware target; give the run's folder, {tmp_path}, "),
        (SearchSpace.load, target, "holds a hardware target, not a search space; give "),
        (Target.load, space, "holds a search space, not a hardware target; give "),
    ):
        with pytest.raises(InputError) as caught:
            load(str(file))
        assert str(caught.value).startswith(f"{file} {says}")
    assert SearchSpace.load(str(space)).name == "mine"
    assert Target.load(str(target)).name == "neuromorphic"


def test_defaults():
    space = SearchSpace.from_toml(LEAST)
    assert space.baseline == UniformBits(weight_bits=8, spike_bits=4, time_steps=2)
    assert space.choices.smallest == UniformBits(weight_bits=1, spike_bits=1, time_steps=1)
    assert space.first_layer.counted
    assert space.search.parameters == {}


def test_the_smallest_allocation_follows_the_choices():
    text = LEAST + "[choices]\nweight_bits = {low = 2, high = 8}\ntime_steps = {low = 2, high = 3}\n"
    assert SearchSpace.from_toml(text).choices.smallest == UniformBits(weight_bits=2, spike_bits=1, time_steps=2)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("colour = 1", "colour"),
        ("[training]\nepoch = 3", "training.epoch"),
        ("[choices.weight_bits]\nlow = 1\nhigh = 8\nstep = 2", "choices.weight_bits.step"),
        ("[allocation]\nbudget_shares = 1.0", "allocation.budget_shares"),
        ("[search]\nparameter = {}", "search.parameter"),
    ],
)
def test_unknown_fields_are_named(text, field):
    assert f"unknown field '{field}'" in refusal(LEAST + text)


@pytest.mark.parametrize("field", ["name", "network", "data"])
def test_missing_fields_are_named(field):
    kept = "\n".join(line for line in LEAST.splitlines() if not line.startswith(field))
    assert f"'{field}' is missing" in refusal(kept)


@pytest.mark.parametrize(
    ("text", "field", "allowed"),
    [
        ("[choices.weight_bits]\nlow = 0\nhigh = 8", "choices.weight_bits.low is 0", "greater than or equal to 1"),
        ("[choices.weight_bits]\nlow = 1\nhigh = 9", "weight_bits.high is 9", "at most 8"),
        ("[choices.spike_bits]\nlow = 1\nhigh = 9", "spike_bits.high is 9", "at most 8"),
        ("[choices.time_steps]\nlow = 1\nhigh = 100001", "time_steps.high is 100001", "at most 100000"),
        ("[choices.spike_bits]\nlow = 5\nhigh = 4", "choices.spike_bits is", "low 5 is above high 4"),
        ("[training]\nepochs = 0", "training.epochs is 0", "greater than or equal to 1"),
        ("[training]\nlearning_rate = 0.0", "training.learning_rate is 0.0", "greater than 0"),
        ("[training]\nlearning_rate = inf", "training.learning_rate is inf", "finite"),
        ("[training]\nbatch_size = 1.5", "training.batch_size is 1.5", "integer"),
        ("[allocation]\nbudget_share = 1.1", "allocation.budget_share is 1.1", "less than or equal to 1"),
        ("[allocation]\nsearch_share = 1.0", "allocation.search_share is 1.0", "less than 1"),
        ("[allocation]\nestimator = 'exact'", "allocation.estimator is 'exact'", "'probed' or 'straight_through'"),
        ("[allocation]\nregularizer = 1", "allocation.regularizer is 1", "'metric' or 'means'"),
        ("[search]\nsampler = 'grid'", "search.sampler is 'grid'", "'tpe', 'nsga2' or 'random'"),
        ("[search]\ntrials = 0", "search.trials is 0", "greater than or equal to 1"),
        ("[first_layer]\nweight_bits = 16", "first_layer.weight_bits is 16", "less than or equal to 8"),
        ("[baseline]\nweight_bits = 9\nspike_bits = 4\ntime_steps = 2", "baseline.weight_bits is 9", "equal to 8"),
        ("schema_version = 2", "schema_version is 2", "1"),
        ("split_seed = -1", "split_seed is -1", "greater than or equal to 0"),
    ],
)
def test_values_out_of_range_are_named_with_what_is_allowed(text, field, allowed):
    message = refusal(LEAST + text)
    assert field in message
    assert allowed in message


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", ".hidden", "x" * 101, "a/b", "a\\nb"])
def test_a_name_that_could_not_be_a_folder_is_refused(name):
    assert "name is" in refusal(LEAST.replace('"mine"', f'"{name}"'))


@pytest.mark.parametrize("text", ["name = ", "name", "[choices", "a = 1\na = 2", 'name = "a\nb"', "\x00", "= 1"])
def test_bad_toml_is_refused(text):
    assert "not TOML" in refusal(text)


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "{a=" * 5000 + "1" + "}" * 5000, "1" * 5000])
def test_hostile_toml_is_refused(value):
    refusal(f"{LEAST}description = {value}\n")


def test_a_parameter_that_is_no_setting_lists_the_settings():
    message = refusal(LEAST + "[search.parameters]\nweight_prize = { low = 0.1, high = 1.0 }")
    assert "search.parameters.weight_prize" in message
    for setting in Allocation.types():
        assert setting in message.split("allowed:")[1]


@pytest.mark.parametrize(
    ("parameter", "field", "allowed"),
    [
        ("budget_share = { low = 0.5, high = 1.5 }", "budget_share is 1.5", "less than or equal to 1"),
        ("weight_price = { low = -1.0, high = 1.0 }", "weight_price is -1.0", "greater than 0"),
        ("depth_preference = { low = -9, high = 0 }", "depth_preference is -9", "greater than or equal to -4"),
        ("estimator = { choices = ['curvature', 'exact'] }", "estimator is 'exact'", "'straight_through'"),
        ("renewal.enabled = { choices = [true, 'often'] }", "renewal.enabled is 'often'", "boolean"),
        ("probe_every = { choices = [4, 0] }", "probe_every is 0", "greater than or equal to 1"),
        ("probe_every = { choices = [4, 4.5] }", "probe_every is 4.5", "integer"),
        ("start = { choices = [4] }", "start is 4", "give a table"),
    ],
)
def test_a_parameter_value_that_its_setting_does_not_allow_is_refused(parameter, field, allowed):
    message = refusal(f"{LEAST}[search.parameters]\n{parameter}")
    assert field in message
    assert allowed in message


@pytest.mark.parametrize(
    ("parameter", "fault"),
    [
        ("weight_price = { low = 2.0, high = 1.0 }", "low 2.0 is not below high 1.0"),
        ("weight_price = { low = 1.0, high = 1.0 }", "low 1.0 is not below high 1.0"),
        ("depth_preference = { low = -1.0, high = 1.0, log = true }", "a log range needs a positive low"),
    ],
)
def test_a_range_that_holds_nothing_is_refused(parameter, fault):
    assert fault in refusal(f"{LEAST}[search.parameters]\n{parameter}")


def test_an_empty_list_of_choices_is_refused():
    assert "at least 1" in refusal(f"{LEAST}[search.parameters]\nestimator = {{ choices = [] }}")


@pytest.mark.parametrize("setting", ["probe_every", "renewal.epochs"])
def test_a_real_range_for_a_setting_of_whole_numbers_is_refused(setting):
    assert setting in refusal(f"{LEAST}[search.parameters]\n{setting} = {{ low = 2, high = 9 }}")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[choices]\nweight_bits = {low = 5, high = 8}", "w5 s4 T2"),
        ("[choices]\nspike_bits = {low = 1, high = 3}", "w4 s3 T2"),
        ("[choices]\nspike_bits = [1, 2, 8]", "w4 s2 T2"),
        ("[allocation.start]\nweight_bits = 4\nspike_bits = 4\ntime_steps = 5", "w4 s4 T4"),
    ],
)
def test_a_start_outside_the_choices_moves_to_the_nearest_and_says_so(text, start):
    with pytest.warns(
        UserWarning, match=rf"^allocation\.start is w4 s4 T\d, outside the choices: {start}, the nearest"
    ):
        space = SearchSpace.from_toml(LEAST + text)
    assert str(space.allocation.start) == start


def test_a_start_that_moved_is_said_once():
    with pytest.warns(UserWarning, match="the nearest, is taken"):
        space = SearchSpace.from_toml(LEAST).override(["choices.time_steps={low = 1, high = 1}"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SearchSpace.from_toml(to_toml(space)) == space
        assert space.override(["training.epochs=3"]).allocation.start == space.allocation.start


def test_a_trials_values_replace_the_settings():
    space = SearchSpace.from_toml(LEAST + "[allocation]\nweight_price = 2.0\nspike_price = 3.0")
    settings = space.allocation_with({"weight_price": 5.0, "estimator": "straight_through"})
    assert (settings.weight_price, settings.spike_price, settings.estimator) == (5.0, 3.0, "straight_through")
    assert space.allocation.weight_price == 2.0
    with pytest.raises(ValueError, match="weight_price is 0"):
        space.allocation_with({"weight_price": 0})


def test_a_space_with_one_method_no_longer_varies_it():
    space = SearchSpace.load("digits").override(['search.parameters.method={choices=["adaptive", "refine"]}'])
    one = space.with_method("sensitivity")
    assert one.allocation.method == "sensitivity"
    assert set(space.search.parameters) - set(one.search.parameters) == {"method"}
    assert one.model_copy(update={"allocation": space.allocation, "search": space.search}) == space
    with pytest.raises(InputError, match=r"allocation.method.*'adaptive'"):
        space.with_method("magic")


def test_settings_that_do_not_fit_together_are_told_without_the_whole_space():
    with pytest.raises(InputError) as caught:
        SearchSpace.load("digits").override(["search.parameters.method={low=0,high=1}"])
    assert str(caught.value) == (
        "digits with search.parameters.method={low=0,high=1}: "
        "search.parameters.method takes no range of real numbers; list its choices"
    )


def test_a_list_of_a_file_is_a_span_and_survives_being_written():
    choices = SearchSpace.from_toml(LEAST + "[choices]\nweight_bits = [8, 2, 4]\ntime_steps = [1, 2, 4]").choices
    assert choices.weight_bits == Span(low=2, high=8, only=(2, 4, 8))
    assert choices.spike_bits == Span(low=1, high=8)
    assert choices.smallest == UniformBits(weight_bits=2, spike_bits=1, time_steps=1)
    for mode in ("python", "json"):
        assert Choices.model_validate(choices.model_dump(mode=mode, exclude_none=True)) == choices


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("[]", "list whole numbers"),
        ("[1, 2.5]", "list whole numbers"),
        ("[1, '2']", "list whole numbers"),
        ("[1, true]", "list whole numbers"),
        ("[0, 1]", "greater than or equal to 1"),
        ("[1, 9]", "at most 8"),
        ("{low = 1, high = 8, only = [1, 2]}", "from low to high"),
        ("{low = 1, high = 4, only = [4, 1]}", "from low to high"),
        ("{low = 1, high = 4, only = [1, 1, 4]}", "every value once"),
        ("{low = 1, high = 4, only = []}", "from low to high"),
        ("{low = 5, high = 4, only = [5, 4]}", "low 5 is above high 4"),
    ],
)
def test_a_list_that_is_no_choice_is_refused(value, fault):
    message = refusal(f"{LEAST}[choices]\nweight_bits = {value}")
    assert "choices" in message
    assert fault in message


def test_the_target_is_the_generic_one_unless_it_says_otherwise():
    assert SearchSpace.from_toml(LEAST).target == "generic"
    assert SearchSpace.from_toml(LEAST + 'target = "chips/mine.toml"').target == "chips/mine.toml"
    assert "target is ''" in refusal(LEAST + 'target = ""')


def test_the_shipped_files_are_those_of_the_repository():
    folder = Path(__file__).parents[1] / "search_spaces"
    assert shipped_spaces() == {file.stem: file.read_text() for file in folder.glob("*.toml")}


def test_settings_are_put_over_the_file():
    space = SearchSpace.from_toml(LEAST + "[choices]\nweight_bits = [1, 4, 8]\n[training]\nbatch_size = 32")
    changed = space.override(["training.epochs=3", "choices.spike_bits={low = 2, high = 4}", "metric=s_ace"])
    assert (changed.training.epochs, changed.training.batch_size, changed.metric) == (3, 32, "s_ace")
    assert changed.choices.spike_bits == Span(low=2, high=4)
    assert changed.choices.weight_bits == space.choices.weight_bits
    assert space.override(["choices.weight_bits=[2, 4]"]).choices.weight_bits.values == (2, 4)
    assert space.override([]) is space
    assert space.override(["training.batch_size=32"]) == space


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("training.epoch=3", "mine with training.epoch=3: unknown field 'training.epoch'"),
        ("trainings.epochs=3", "unknown field 'trainings'"),
        ("training.epochs=many", "training.epochs is 'many': "),
        ("training=3", "training is 3: "),
        ("search.parameters.weight_prize.low=1", "search.parameters.weight_prize"),
        ("schema_version=2", "schema_version is 2"),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(setting, fault):
    with pytest.raises(InputError) as caught:
        SearchSpace.from_toml(LEAST).override([setting])
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("root", "found"),
    [
        ("images", "{cwd}/images"),
        ("../images", "{parent}/images"),
        ("~/images", "{home}/images"),
        ("/data/images", "/data/images"),
        ("s3://bucket/images", "s3://bucket/images"),
        ("", ""),
    ],
)
def test_a_root_means_the_same_folder_from_everywhere(root, found, tmp_path, monkeypatch):
    home, cwd = tmp_path / "home", tmp_path / "work"
    cwd.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(cwd)
    space = SearchSpace.from_toml(f"{LEAST}[data_options]\nroot = {root!r}\nsize = 8")
    assert space.data_options == {"root": found.format(cwd=cwd, parent=tmp_path, home=home), "size": 8}
    monkeypatch.chdir(tmp_path)
    assert SearchSpace.model_validate(space.model_dump()) == space
    assert SearchSpace.from_toml(LEAST).override([f"data_options.root={root}"]).data_options["root"] == (
        found.format(cwd=tmp_path, parent=tmp_path.parent, home=home)
    )
