import pytest

from bitsearch.errors import InputError
from bitsearch.space import SearchSpace
from bitsearch.training import Training

LEAST = 'name = "mine"\nnetwork = "digits_cnn"\ndata = "digits"\n[training]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "optimizer = 'sdg'",
            "training.optimizer is 'sdg': no such optimizer; known: adam, adamw, sgd; or give your own",
        ),
        ("optimizer = 'sdg'", "did you mean 'sgd'?"),
        ("optimizer = 'torch.optim'", "package.module:factory"),
        ("momentum = 0.9", "momentum and nesterov are for optimizer sgd, not adam"),
        ("optimizer = 'adamw'\nnesterov = true", "momentum and nesterov are for optimizer sgd, not adamw"),
        ("optimizer = 'sgd'\nmomentum = 1.0", "training.momentum is 1.0: Input should be less than 1"),
        ("optimizer = 'sgd'\nmomentum = 0.0\nnesterov = true", "nesterov needs a momentum above 0"),
        ("weight_decay = inf", "training.weight_decay is inf"),
        ("schedule = 'linear'", "'cosine', 'one_cycle', 'multi_step' or 'constant'"),
        ("warm_up = -1", "training.warm_up is -1"),
        ("schedule = 'one_cycle'\nwarm_up = 1", "one_cycle warms up by itself; leave out warm_up"),
        ("milestones = [0.5]", "milestones and gamma are for schedule multi_step, not cosine"),
        ("gamma = 0.5", "milestones and gamma are for schedule multi_step, not cosine"),
        ("schedule = 'multi_step'\nmilestones = [30, 60]", "training.milestones.0 is 30: Input should be less than 1"),
        ("schedule = 'multi_step'\nmilestones = [0.7, 0.5]", "milestones are [0.7, 0.5]; give shares of a training"),
        ("gradient_clipping = 0", "training.gradient_clipping is 0: Input should be greater than 0"),
        ("mixup = 0", "training.mixup is 0: Input should be greater than 0"),
        ("ema = 1.0", "training.ema is 1.0: Input should be less than 1"),
        ("distillation = { weight = 1.5 }", "training.distillation.weight is 1.5"),
        ("distillation = { temperature = 0 }", "training.distillation.temperature is 0"),
        ("distillation = { temp = 1 }", "unknown field 'training.distillation.temp'"),
        ("distillation = 0.5", "training.distillation is 0.5"),
        ("early_stopping = 0", "training.early_stopping is 0"),
        ("precision = 'bf16'", "training.precision is 'bf16': Input should be 'float32', 'bfloat16' or 'float16'"),
    ],
)
def test_a_bad_value_is_one_line(text, said):
    with pytest.raises(InputError) as caught:
        SearchSpace.from_toml(LEAST + text, source="given.toml")
    message = str(caught.value)
    assert message.startswith("given.toml: ")
    assert said in message
    assert len(message.splitlines()) == 1


def test_the_recipe_is_kept_as_it_was_written():
    text = (
        "optimizer = 'sgd'\nnesterov = true\nschedule = 'multi_step'\nmilestones = [0.3, 0.6]\ngamma = 0.2\n"
        "warm_up = 0.5\ngradient_clipping = 1.0\nmixup = 0.2\nema = 0.99\nearly_stopping = 3\n"
    )
    space = SearchSpace.from_toml(LEAST + text)
    again = space.override(["training.epochs=7"])
    assert again.training == space.training.model_copy(update={"epochs": 7})
    assert again.training.milestones == (0.3, 0.6)


def test_fields_are_changed_and_checked_together():
    space = SearchSpace.from_toml(LEAST)
    changed = space.with_training({"optimizer": "sgd", "momentum": 0.8, "epochs": None})
    assert changed.training == Training(optimizer="sgd", momentum=0.8)
    with pytest.raises(InputError, match="training: momentum and nesterov are for optimizer sgd"):
        space.with_training({"momentum": 0.8})
    with pytest.raises(InputError, match=r"training: unknown field 'optimiser'.*did you mean 'optimizer'\?"):
        space.with_training({"optimiser": "sgd"})


@pytest.mark.parametrize(("old", "name"), [("32-true", "float32"), ("bf16-mixed", "bfloat16"), ("16-mixed", "float16")])
def test_a_precision_is_read_by_its_old_name_too(old, name):
    space = SearchSpace.from_toml(f"{LEAST}precision = '{old}'")
    assert space == SearchSpace.from_toml(f"{LEAST}precision = '{name}'")
    assert space.training.precision == name
