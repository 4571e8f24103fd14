"""The search space: which network and data, which choices, how to train and what the outer loop varies.

A search space is a commented TOML file. Those shipped with bitsearch are found by name, others by path.
"""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from bitsearch.allocation_settings import Allocation, MethodName
from bitsearch.choices import Choices, FirstLayer, NeuronChoice
from bitsearch.declared_metric import DeclaredMetric, MetricName
from bitsearch.declared_neuron import ClassPath, DeclaredNeuron
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.override import override
from bitsearch.parameters import Parameter, nest, put
from bitsearch.plan import UniformBits
from bitsearch.renamed import rename_content, rename_settings
from bitsearch.task_settings import TaskSettings
from bitsearch.training import Training
from bitsearch.validation import Count, Frozen, Name, Seed, explain, from_toml, load_toml


class Search(Frozen):
    """The outer loop."""

    trials: Count = 12
    """Trials that search; the uniform baselines come on top."""
    methods: tuple[MethodName, ...] = ()
    """Each of these gets ``trials`` trials, in turns, and nothing else is trained; none: ``allocation.method`` does."""
    sampler: Literal["tpe", "nsga2", "random"] = "tpe"
    uniform_trials: Count = 16
    """At most this many uniform plans are trained as baselines."""
    front_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the trials, uniform ones included, that is spread along the front; the rest is at the budget."""
    front_epochs: Count = 4
    """Of a searching trial along the front, which goes on from the weights of the nearest one that has finished; there
    are as many as take the time of the share's trials."""
    parameters: dict[str, Parameter] = {}
    """By the name of a setting of ``[allocation]``, that of a table's as ``ramp.steps``."""

    def with_methods(self, *methods: str) -> "Search":
        """This outer loop with methods that take turns, or one without any; it no longer varies the method."""
        parameters = {name: parameter for name, parameter in self.parameters.items() if name != "method"}
        return self.model_copy(update={"methods": methods, "parameters": parameters})


class SearchSpace(Frozen):
    """Everything that defines a search, apart from the budget and the seed.

    >>> space = bitsearch.SearchSpace.load("digits").override(["training.epochs=3"])
    >>> space.network, space.training.epochs, str(space.baseline)
    ('digits_cnn', 3, 'w8 s4 T2')
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")
    description: str = ""
    network: Name
    network_options: dict[str, Any] = {}
    data: Name
    data_options: dict[str, Any] = {}
    """A ``root`` is a folder or an address; a relative one is taken from the working directory, and kept absolute."""
    split_seed: Seed = 0
    weights: Name | None = None
    """File of trained weights, a safetensors file or a checkpoint of torch's, that full precision starts from; a
    relative path is taken from the working directory, and kept absolute."""
    include: tuple[Name, ...] = Field(default=("*",), min_length=1)
    """Globs of module paths: a layer gets bits if it, or a module around it, matches one."""
    exclude: tuple[Name, ...] = ()
    """Globs of module paths that keep 32 bits."""
    signed_input: bool | None = None
    """Whether the data's inputs may be below zero; by default, as the training data are."""
    metric: Name = "bit_budget"
    """The cost metric that a bare ``--budget`` speaks of."""
    neurons: dict[ClassPath, DeclaredNeuron] | None = None
    """Spiking neurons of classes that no library has, by ``package.module:Class``."""
    neuron: NeuronChoice = NeuronChoice()
    """Reset and start of the refined neurons."""
    metrics: dict[MetricName, DeclaredMetric] | None = None
    """Cost metrics of the user's own, by name."""
    target: Name = "generic"
    """Hardware target: the name of a shipped one, or the path of a TOML file."""
    baseline: UniformBits = UniformBits(weight_bits=8, spike_bits=4, time_steps=2)
    choices: Choices = Choices()
    follow_frames: tuple[Literal["choices", "baseline", "start", "first_layer"], ...] | None = None
    """What takes its time steps from the data's frames, where they have any, and not from this space."""
    first_layer: FirstLayer = FirstLayer()
    layers: tuple[LayerRule, ...] = ()
    """What layers may get by their names, in place of the choices and of the first layer's bits; later entries win."""
    ties: tuple[TieRule, ...] = ()
    """Layers that share numbers."""
    task: TaskSettings = TaskSettings()
    training: Training = Training()
    allocation: Allocation = Allocation()
    search: Search = Search()

    @property
    def front_epochs(self) -> int:
        """Of a trial along the front: never more than of any other."""
        return min(self.search.front_epochs, self.training.epochs)

    @model_validator(mode="before")
    @classmethod
    def _by_current_names(cls, content: object, info: ValidationInfo) -> object:
        if not isinstance(content, Mapping):
            return content
        source = (info.context or {}).get("source", f"search space {content.get('name')!r}")
        return rename_content(content, source)

    @field_validator("data_options")
    @classmethod
    def _root_from_anywhere(cls, options: dict[str, Any]) -> dict[str, Any]:
        root = options.get("root")
        if not isinstance(root, str) or not root or "://" in root:
            return options
        return options | {"root": _absolute(root)}

    @field_validator("weights")
    @classmethod
    def _weights_from_anywhere(cls, path: str | None) -> str | None:
        return None if path is None else _absolute(path)

    @model_validator(mode="after")
    def _consistent(self) -> "SearchSpace":
        start = self.choices.nearest(self.allocation.start)
        if None in (self.allocation.start.membrane_bits, self.choices.membrane_bits):
            # The widest, or what layer rules may allow.
            start = start.model_copy(update={"membrane_bits": self.allocation.start.membrane_bits})
        if start != self.allocation.start:
            message = (
                f"allocation.start is {self.allocation.start}, outside the choices: {start}, the nearest, is taken"
            )
            warnings.warn(message, stacklevel=2)
            # A validator cannot give back another instance.
            object.__setattr__(self, "allocation", self.allocation.model_copy(update={"start": start}))
        if len(set(self.search.methods)) < len(self.search.methods):
            raise ValueError("search.methods lists a method twice")
        if self.search.methods and "method" in self.search.parameters:
            raise ValueError("search.methods and search.parameters.method were both given; give one of them")
        types = Allocation.types()
        for name, parameter in self.search.parameters.items():
            if name not in types:
                allowed = ", ".join(types)
                raise ValueError(f"search.parameters.{name} is not a setting of [allocation]; allowed: {allowed}")
            if parameter.range is not None and types[name] not in (float, float | None):
                raise ValueError(f"search.parameters.{name} takes no range of real numbers; list its choices")
            for value in parameter.range or parameter.choices or ():
                self.allocation_with({name: value})
        return self

    def allocation_with(self, parameters: dict[str, Any]) -> Allocation:
        """The inner loop's settings, with some of them set to a trial's values; ValueError if one is not allowed."""
        content = self.allocation.model_dump()
        for name, value in parameters.items():
            put(content, name, value)
        try:
            return Allocation.model_validate(content)
        except ValidationError as error:
            raise ValueError(f"search.parameters: {explain(error)}") from error

    def override(self, settings: Sequence[str]) -> "SearchSpace":
        """This space with settings such as ``training.epochs=3``; see :func:`bitsearch.override.override`.

        Raises:
            InputError: a setting of another form, an unknown key, or a value that is not allowed.
        """
        if not settings:
            return self
        content = self.model_dump(exclude_none=True)
        content["search"]["parameters"] = nest(content["search"]["parameters"])
        content = override(content, rename_settings(settings))
        try:
            return SearchSpace.model_validate(content)
        except ValidationError as error:
            raise InputError(f"{self.name} with {', '.join(settings)}: {explain(error, SearchSpace)}") from error

    def with_training(self, changes: Mapping[str, Any]) -> "SearchSpace":
        """This space with some fields of ``[training]`` set; what is None stays as it is.

        Raises:
            InputError: an unknown field, or a value that is not allowed.
        """
        content = self.training.model_dump() | {key: value for key, value in changes.items() if value is not None}
        try:
            return self.model_copy(update={"training": Training.model_validate(content)})
        except ValidationError as error:
            raise InputError(f"training: {explain(error, Training)}") from error

    def with_task(self, task: str | Mapping[str, Any] | None) -> "SearchSpace":
        """This space with another ``[task]``: its name, or its fields; with None it stays as it is.

        Raises:
            InputError: an unknown field, or a value that is not allowed.
        """
        if task is None:
            return self
        content = {"name": task} if isinstance(task, str) else dict(task)
        try:
            return self.model_copy(update={"task": TaskSettings.model_validate(content)})
        except ValidationError as error:
            raise InputError(f"task: {explain(error, TaskSettings)}") from error

    def with_neuron(self, choice: NeuronChoice | Mapping[str, Any] | None) -> "SearchSpace":
        """This space with another ``[neuron]``, an object or its fields; what it leaves out stays as it is."""
        return self.model_copy(update={"neuron": self.neuron.replace(choice)})

    def with_layers(self, rules: Iterable[LayerRule | Mapping[str, Any] | str]) -> "SearchSpace":
        """This space with further layer rules behind its own, which win: objects, tables, or as on the command line.

        Raises:
            InputError: an unknown field, or a value that is not allowed.
        """
        parsed = [LayerRule.parse(rule) if isinstance(rule, str) else _entry(LayerRule, rule) for rule in rules]
        return self.model_copy(update={"layers": (*self.layers, *parsed)}) if parsed else self

    def with_ties(self, rules: Iterable[TieRule | Mapping[str, Any] | str]) -> "SearchSpace":
        """This space with further ties; as :meth:`with_layers`."""
        parsed = [TieRule.parse(rule) if isinstance(rule, str) else _entry(TieRule, rule) for rule in rules]
        return self.model_copy(update={"ties": (*self.ties, *parsed)}) if parsed else self

    def with_weights(self, path: str | os.PathLike[str]) -> "SearchSpace":
        """This space with a network that is trained already: its weights are taken as they are."""
        training = self.training.model_copy(update={"full_precision_epochs": 0})
        return self.model_copy(update={"weights": _absolute(os.fspath(path)), "training": training})

    def with_method(self, method: str) -> "SearchSpace":
        """This space with one method, which its outer loop does not vary.

        Raises:
            InputError: no such method.
        """
        space = self.override([f"allocation.method={method}"])
        return space.model_copy(update={"search": space.search.with_methods()})

    @classmethod
    def from_toml(cls, text: str, source: str = "search space") -> "SearchSpace":
        """Read a search space; InputError names ``source``, the field, the value and what is allowed."""
        return from_toml(cls, text, source)

    @classmethod
    def load(cls, name_or_path: str | Path) -> "SearchSpace":
        """A shipped search space by name, or any by the path of its TOML file (it ends in ``.toml``)."""
        return load_toml(cls, name_or_path, shipped_spaces, "search space")


_Entry = TypeVar("_Entry", LayerRule, TieRule)


def _entry(kind: type[_Entry], content: _Entry | Mapping[str, Any]) -> _Entry:
    """An entry of ``[[layers]]`` or ``[[ties]]``."""
    table = "layers" if kind is LayerRule else "ties"
    try:
        return content if isinstance(content, kind) else kind.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{table}: {explain(error, kind)}") from error


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


def shipped_spaces() -> dict[str, str]:
    """The TOML text of every search space that came with the package, by name."""
    folder = resources.files("bitsearch") / "search_spaces"
    if not folder.is_dir():
        # A checkout, installed in place: the files stand at the top of the repository.
        folder = resources.files("bitsearch").joinpath("..", "search_spaces")
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }
