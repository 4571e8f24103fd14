"""Where the values of a tensor come from, followed through every operation of a forward pass.

Whatever a network's Python does, it ends in torch's own operations, a few hundred of them. Every one is met here by
name, views and in-place writes included, and passes on what is known of its operands
(:mod:`bitsearch.dataflow.rules`); so a network needs no tracer that understands it, and the order in which its modules
were registered says nothing.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from bitsearch.dataflow.rules import POSITIVE, UNKNOWN, Operation, Origin, computed, passed, reaching_layers

Reader = tuple[nn.Module | None, str]
"""The innermost module that read spikes, None outside of every module, and the operation that it did: one of torch's,
``layer``, ``neuron`` or ``output``; or ``membrane``, whatever it did, where it read one."""


_FIRST_FACTORS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "addmm": 1, "baddbmm": 1, "addbmm": 1, "addmv": 1}
"""Which argument of a matrix product is its first factor; the second is the next."""


@dataclass(frozen=True)
class Product:
    """A matrix product between the layers."""

    macs: int
    factors: tuple[Origin, Origin]


class OriginTracker(TorchDispatchMode):
    """Follows origins while it is entered; what happens inside of opaque modules is not followed.

    Its user says where modules begin and end (:meth:`enter`, :meth:`leave`), where spikes come from (:meth:`mark`), and
    which tensors a layer reads or the network returns (:meth:`read`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[nn.Module, list[Reader]] = {}
        """Of every neuron whose spikes were read, in the order of the reading."""
        self.parameters: set[nn.Parameter] = set()
        """Those that some operation took."""
        self.borrowed: dict[nn.Module, set[nn.Parameter]] = {}
        """Of every module, those of others that its own operations took."""
        self.products: dict[nn.Module, list[Product]] = {}
        """Of every module, those outside of the modules that it calls, and of layers."""
        self._origins = WeakIdKeyDictionary()
        self._written: dict[int, tuple[Origin, torch.UntypedStorage]] = {}
        """What was written in place, by the storage's address, which all tensors of that storage show."""
        self._running: list[nn.Module] = []
        self._opaque = 0

    def enter(self, module: nn.Module, *, opaque: bool) -> None:
        """A call of ``module`` begins."""
        self._running.append(module)
        self._opaque += opaque

    def leave(self, *, opaque: bool) -> None:
        """It ends."""
        self._running.pop()
        self._opaque -= opaque

    def mark(self, tree: Any, origin: Origin) -> None:
        """Say what every tensor in ``tree`` comes from."""
        for tensor in _tensors(tree):
            self._origins[tensor] = origin

    def of(self, tensor: Tensor) -> Origin:
        """What is known of a tensor."""
        origin: Origin | None = self._origins.get(tensor)
        if origin is None:
            origin = _made_elsewhere(tensor)
        written = self._written.get(tensor.untyped_storage()._cdata) if self._written else None
        return origin if written is None else origin | written[0]

    def layers_of(self, tree: Any) -> set[nn.Module]:
        """The layers whose results reach the tensors of ``tree``."""
        return {layer for tensor in _tensors(tree) for layer in self.of(tensor).layers}

    def read(self, reader: nn.Module | None, operation: str, tree: Any) -> None:
        """Note who reads the spikes, and the membranes, that reach the tensors of ``tree``."""
        for tensor in _tensors(tree):
            origin = self.of(tensor)
            for neuron in origin.neurons:
                self.readers.setdefault(neuron, []).append((reader, operation))
            for neuron in origin.membranes:
                self.readers.setdefault(neuron, []).append((reader, "membrane"))

    def read_states(self, reader: nn.Module, tree: Any) -> None:
        """Note that a neuron takes the tensors of ``tree`` for its states; its own are no news."""
        for tensor in _tensors(tree):
            origin = self.of(tensor)
            for neuron in (origin.neurons | origin.membranes) - {reader}:
                self.readers.setdefault(neuron, []).append((reader, "membrane"))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and note what its results come from."""
        kwargs = kwargs or {}
        operands = _tensors((args, kwargs))
        parameters = {operand for operand in operands if isinstance(operand, nn.Parameter)}
        self.parameters |= parameters
        if parameters and self._running and not self._opaque:
            own = set(self._running[-1].parameters(recurse=False))
            self.borrowed.setdefault(self._running[-1], set()).update(parameters - own)
        if self._opaque:
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        written = _written_tensors(func, args, kwargs)
        name = name.removesuffix("_") if written else name
        values = [tensor for tensor in operands if tensor is operands[0] or _is_value(tensor, name)]
        # Before the operation runs: it may write into its operands.
        origins = [self._factor(tensor) if name in ("mul", "div") else self.of(tensor) for tensor in values]
        if self._running and name in _FIRST_FACTORS:
            self._multiply(args[_FIRST_FACTORS[name] :][:2])
        result = func(*args, **kwargs)
        self._follow(Operation(name, args, kwargs, result), values, origins, written)
        return result

    def _factor(self, tensor: Tensor) -> Origin:
        """Of what something is multiplied by: of a number, only the sign counts."""
        number = None if tensor in self._origins or tensor.dim() else _number(tensor)
        return self.of(tensor) if number is None else Origin(nonnegative=number >= 0)

    def _multiply(self, factors: tuple[Any, ...]) -> None:
        first, second = factors
        # Every element of the first meets one row, or all columns, of the second.
        macs = first.numel() * (second.shape[-1] if second.dim() > 1 else 1)
        product = Product(macs, (self.of(first), self.of(second)))
        self.products.setdefault(self._running[-1], []).append(product)

    def _follow(self, operation: Operation, values: list[Tensor], origins: list[Origin], written: list[Tensor]) -> None:
        origin = passed(operation, origins)
        if origin is None:
            self.read(self._running[-1] if self._running else None, operation.name, values)
            origin = computed(operation, origins)
        layers = reaching_layers(operation, origins)
        origin, of_truth = replace(origin, layers=layers), replace(POSITIVE, layers=layers)
        for tensor in written:
            self._write(tensor, origin)
        for tensor in _tensors(operation.result):
            self._origins[tensor] = of_truth if tensor.dtype == torch.bool else origin

    def _write(self, tensor: Tensor, origin: Origin) -> None:
        storage = tensor.untyped_storage()
        before = self._written.get(storage._cdata)
        whole = tensor.numel() * tensor.element_size() == storage.nbytes()
        # What an operation leaves of a whole storage is in its result's origin.
        self._written[storage._cdata] = (origin if before is None or whole else before[0] | origin, storage)
        self._origins[tensor] = origin


def _written_tensors(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation writes into, as its schema says."""
    if not func._schema.is_mutable:
        return []
    arguments = func._schema.arguments
    values = [*zip(arguments, args, strict=False), *((a, kwargs[a.name]) for a in arguments if a.name in kwargs)]
    written = _tensors([value for argument, value in values if argument.alias_info and argument.alias_info.is_write])
    # Of lists of tensors, the schema does not say it.
    return written or _tensors((args, kwargs))


def _made_elsewhere(tensor: Tensor) -> Origin:
    """Of parameters, buffers and numbers made into tensors."""
    if tensor.dtype in (torch.bool, torch.uint8):
        return POSITIVE
    number = _number(tensor)
    return UNKNOWN if number is None else Origin(other=number != 0, nonnegative=number >= 0)


def _number(tensor: Tensor) -> float | None:
    if isinstance(tensor, nn.Parameter) or tensor.numel() != 1 or tensor.is_complex():
        return None
    return float(tensor.item())


def _is_value(tensor: Tensor, name: str) -> bool:
    """Whole numbers are indices in some operations."""
    whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
    return not (whole and name.lstrip("_").startswith(("index", "scatter", "gather", "take", "embedding")))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
