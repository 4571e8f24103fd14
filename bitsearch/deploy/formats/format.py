"""What an export format is: an entry of a table for the command, and a function of one signature that writes it.

Nothing here needs torch: the command names its formats before it loads a network.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bitsearch.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from bitsearch.data.splits import Samples
    from bitsearch.deploy.integer.packed_file import PackedNetwork
    from bitsearch.network_inputs import Inputs
    from bitsearch.plan import BitPlan
    from bitsearch.train.task import Task


@dataclass(frozen=True)
class ExportRequest:
    """What there is to export, and where to; a format takes of it what it needs."""

    network: "nn.Module"
    """Of the plan, with its trained weights, on the CPU."""
    plan: "BitPlan"
    task: "Task"
    """Of the network: examples to trace it with, data to compare the file on, the search space."""
    output: Path
    """File or folder to write."""
    report: Path | None = None
    """Page of the plan's run, if there is one."""
    verdict: str | None = None
    """What the plan's run says of it beside uniform bits, if it is the one that the run chose."""
    share_steps: bool = False
    """Whether a layer's spikes are to have one step size for all time steps."""
    thresholds: bool = False
    """Whether a graph is to hold integers and thresholds in the place of quantizers."""
    dialect: str = "plain"
    """Whose importer is to read the file; a name of :data:`bitsearch.deploy.formats.nir.dialects.DIALECTS`."""


@dataclass(frozen=True)
class ConsumerRequest:
    """A packed network that is to be run by something else, beside its integer replay."""

    consumer: str
    """A key of :attr:`Format.consumers`."""
    packed: "PackedNetwork"
    network: "nn.Module"
    """That it was made of, on the CPU."""
    plan: "BitPlan"
    examples: "Inputs"
    """To trace the network with."""
    samples: "Samples"
    batch_size: int


@dataclass(frozen=True)
class ExportResult:
    """What became of a request."""

    lines: tuple[str, ...]
    """To print."""
    equal: bool = True
    """False where the file was run, and does not compute what its network does."""


@dataclass(frozen=True)
class Format:
    """An export format."""

    suffix: str
    """What the name of a file or folder ends in by default."""
    summary: str
    """For ``--help``: one sentence of what is written, and who reads it."""
    function: str
    """``package.module:name`` of what takes an :class:`ExportRequest` and returns an :class:`ExportResult`."""
    modules: tuple[str, ...] = ()
    """That it imports, and that not every installation has."""
    extra: str | None = None
    """Of the package, which brings these modules."""
    options: tuple[str, ...] = ()
    """Fields of a request that are read by formats that name them alone; the command has an option for each."""

    consumers: Mapping[str, str] = field(default_factory=dict)
    """By the name of what runs files of this format, ``package.module:name`` of what compares it with the replay."""

    expressible: str | None = None
    """``package.module:name`` of what takes a :class:`.PackedNetwork`, untrained maybe, and refuses it by layer and
    reason where no weights and bits make the format express it; None for formats that hardware targets cannot name."""

    def express(self, packed: "PackedNetwork") -> None:
        """Raise InputError, with layer and reason, if the format cannot express a network."""
        assert self.expressible is not None
        _function(self.expressible)(packed)

    def export(self, request: ExportRequest) -> ExportResult:
        """Write what is requested.

        Raises:
            InputError: a module is not installed, or as the format's own function: a network that the format cannot
                express, or a file that cannot be written.
        """
        self._check_installed()
        return cast(ExportResult, _function(self.function)(request))

    def consume(self, request: ConsumerRequest) -> ExportResult:
        """Run a packed network by one of the format's consumers, beside the integer replay; InputError as this one."""
        self._check_installed()
        return cast(ExportResult, _function(self.consumers[request.consumer])(request))

    def _check_installed(self) -> None:
        missing = [module for module in self.modules if find_spec(module) is None]
        if missing:
            raise InputError(f"{', '.join(missing)} is not installed; run: pip install 'bitsearch[{self.extra}]'")


def _function(place: str) -> Callable[..., object]:
    module, _, name = place.partition(":")
    return cast(Callable[..., object], getattr(import_module(module), name))
