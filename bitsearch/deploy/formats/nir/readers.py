"""Released importers of NIR, each beside the same few calls: read a file, start anew, run one step.

It imports nothing of this package, so that a Python that has such a library, and an old ``nir`` with it, can run it.
"""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

Step = Callable[[Tensor], Tensor]
"""One step of ``[N, ...]`` inputs; what its neurons keep goes on to the next."""


@dataclass(frozen=True)
class Reader:
    """A library that reads NIR."""

    modules: tuple[str, ...]
    """That it has to be installed with."""
    load: Callable[[Path], nn.Module]
    """The network that its importer makes of a file."""
    start: Callable[[nn.Module], Step]
    """Its neurons at rest, to be run from there."""


def _with_state(network: nn.Module) -> Step:
    """Of a network that takes and returns its neurons' states."""
    state = None

    def step(inputs: Tensor) -> Tensor:
        nonlocal state
        output, state = network(inputs, state)
        return output  # type: ignore[no-any-return]  # of an untyped library

    return step


def _load_spikingjelly(path: Path) -> nn.Module:
    import nir
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    network: nn.Module = import_from_nir(path)
    resets = {name.replace(".", "_"): node.metadata.get("reset") for name, node in nir.read(path).nodes.items()}
    for name, module in network.named_modules():
        if isinstance(module, neuron.BaseNode) and resets[name.split(".")[0]] == "subtract":
            module.v_reset = None
    return network


def _load_snntorch(path: Path) -> nn.Module:
    import nir
    from snntorch.import_nir import import_from_nir

    # It prints what it does.
    with redirect_stdout(io.StringIO()):
        result: nn.Module = import_from_nir(nir.read(path))
        return result


def _start_snntorch(network: nn.Module) -> Step:
    from snntorch import utils

    utils.reset(network)
    return _with_state(network)


def _load_sinabs(path: Path) -> nn.Module:
    import nir
    from sinabs.activation import SingleSpike
    from sinabs.layers import StatefulLayer
    from sinabs.nir import from_nir

    network = from_nir(nir.read(path), num_timesteps=1)
    for module in network.modules():
        if isinstance(module, StatefulLayer):
            module.spike_fn = SingleSpike
    return network  # type: ignore[no-any-return]  # of an untyped library


def _start_sinabs(network: nn.Module) -> Step:
    from sinabs import reset_states

    reset_states(network)
    return _with_state(network)


def _load_norse(path: Path) -> nn.Module:
    import nir
    from norse.torch import from_nir

    return from_nir(nir.read(path))  # type: ignore[no-any-return]  # of an untyped library


READERS = {
    "spikingjelly": Reader(("spikingjelly", "nirtorch"), _load_spikingjelly, _with_state),
    "snntorch": Reader(("snntorch", "nirtorch"), _load_snntorch, _start_snntorch),
    "sinabs": Reader(("sinabs", "nirtorch"), _load_sinabs, _start_sinabs),
    "norse": Reader(("norse", "nirtorch"), _load_norse, _with_state),
}
"""By the name of their dialect."""


@torch.no_grad()
def run(reader: Reader, path: Path, inputs: Tensor) -> dict[str, Tensor]:
    """What every node of a file yields at every step, ``[T, N, ...]`` by its name, and the result as ``output``.

    Args:
        reader: whose importer and neurons are to be used.
        path: of the file.
        inputs: ``[T, N, ...]``.
    """
    import nir

    network = reader.load(path)
    names = {name.replace(".", "_"): name for name in nir.read(path).nodes}
    results: dict[str, list[Tensor]] = {name: [] for name in names.values()}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor | tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], result: Tensor | tuple[Tensor, ...]) -> None:
            results[name].append(result[0] if isinstance(result, tuple) else result)

        return hook

    for module_name, module in network.named_modules():
        if module_name in names:
            module.register_forward_hook(keep(names[module_name]))
    step = reader.start(network)
    results["output"] = [step(frame) for frame in inputs]
    return {name: torch.stack(steps) for name, steps in results.items() if steps}


def main(arguments: list[str]) -> None:
    """Run files in another Python: ``readers.py DIALECT``, and by threes ``FILE INPUTS.npy RESULTS.npz``."""
    dialect, *paths = arguments
    for file, inputs, results in zip(*[iter(paths)] * 3, strict=True):
        outcome = run(READERS[dialect], Path(file), torch.from_numpy(np.load(inputs)))
        np.savez(results, **{name: values.numpy() for name, values in outcome.items()})  # type: ignore[arg-type]  # names, not options


if __name__ == "__main__":
    main(sys.argv[1:])
