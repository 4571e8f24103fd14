"""Values that a shell offers for an option or an argument, by what has been typed of them."""

from collections.abc import Callable, Iterable
from typing import get_args

from bitsearch.allocation_settings import MethodName
from bitsearch.deploy.formats import FORMATS
from bitsearch.deploy.formats.nir.dialects import DIALECTS
from bitsearch.energy_models import ENERGY_MODELS
from bitsearch.plug_ins import plug_ins
from bitsearch.space import shipped_spaces
from bitsearch.task_settings import TaskName

Completion = Callable[[str], list[str]]
"""What typer's ``autocompletion`` takes."""


def _starting(names: Callable[[], Iterable[str]]) -> Completion:
    def complete(incomplete: str) -> list[str]:
        return sorted({name for name in names() if name.startswith(incomplete)})

    return complete


def _targets() -> Iterable[str]:
    from bitsearch.cost.target import Target

    return [*Target.names(), *plug_ins("hardware target")]


def _metrics() -> Iterable[str]:
    from bitsearch.cost.metrics import METRICS

    return [*METRICS, *plug_ins("cost metric")]


def _networks() -> Iterable[str]:
    from bitsearch.models import NETWORKS

    return [*NETWORKS, *plug_ins("network")]


def _data_sets() -> Iterable[str]:
    from bitsearch.data import DATA_SETS

    return [*DATA_SETS, *plug_ins("data set")]


complete_space = _starting(shipped_spaces)
complete_target = _starting(_targets)
complete_task = _starting(lambda: get_args(TaskName))
complete_metric = _starting(_metrics)
complete_method = _starting(lambda: get_args(MethodName))
complete_network = _starting(_networks)
complete_data = _starting(_data_sets)
complete_network_or_space = _starting(lambda: [*_networks(), *shipped_spaces()])
complete_energy_model = _starting(lambda: ENERGY_MODELS)
complete_format = _starting(lambda: FORMATS)
complete_dialect = _starting(lambda: DIALECTS)
complete_split = _starting(lambda: ("train", "validation", "test"))
complete_device = _starting(lambda: ("auto", "cpu", "cuda", "mps"))
