"""What is known of an operation's result from what is known of its operands, by the operation's name in torch."""

from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Origin:
    """What is known of a tensor's values; the default is what is known of zeros."""

    neurons: frozenset[nn.Module] = frozenset()
    """Spiking neurons whose spikes reach it, through operations that are linear in them or choose among them."""
    mixed: bool = False
    """True if on the way they were added up, averaged, pooled, scaled, cut off, dropped or picked, not only moved: a
    neuron behind that would be another one."""
    as_sent: bool = True
    """True if every value is one that was sent, or another operand's: the largest of some is, their sum is not."""
    other: bool = False
    """True if anything else reaches it: the network's input, a parameter, what another operation computed."""
    nonnegative: bool = True
    """True if no value can be below zero, whatever the input and the parameters are."""
    membranes: frozenset[nn.Module] = frozenset()
    """Spiking neurons whose membrane, or another of their states, reaches it."""
    layers: frozenset[nn.Module] = frozenset()
    """Layers whose results reach it without another layer, or matrix product, on the way."""

    def __or__(self, other: "Origin") -> "Origin":
        """Of values that come from either."""
        return Origin(
            self.neurons | other.neurons,
            self.mixed or other.mixed,
            self.as_sent and other.as_sent,
            self.other or other.other,
            self.nonnegative and other.nonnegative,
            self.membranes | other.membranes,
            self.layers | other.layers,
        )


UNKNOWN = Origin(other=True, nonnegative=False)
"""Of the network's input, of parameters, and of what any operation that is not listed here computed."""
POSITIVE = Origin(other=True)
"""Of what cannot be below zero and is no spike."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MOVES = _names(
    "view _unsafe_view reshape _reshape_alias permute transpose t expand unsqueeze squeeze select slice alias detach "
    "clone _to_copy lift_fresh lift unbind split split_with_sizes chunk repeat repeat_interleave narrow diagonal "
    "as_strided unfold im2col pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle"
)
"""Operations whose results are values of their first operand, elsewhere."""
_PICKS = _names("index index_select gather flip roll rot90 masked_select take")
"""The same, where that elsewhere may be another time step."""
_POOLS = (
    "avg_pool", "_adaptive_avg_pool", "adaptive_avg_pool", "max_pool", "adaptive_max_pool", "fractional_max_pool",
    "mkldnn_max_pool", "mkldnn_adaptive_avg_pool", "upsample_nearest", "_upsample_nearest", "upsample_linear",
    "upsample_bilinear", "upsample_trilinear", "reflection_pad", "replication_pad",
)  # fmt: skip
"""How the names begin of operations whose results are means, or the largest, of values of their first operand."""
_REDUCTIONS = _names("mean sum cumsum nansum amax amin max min median sort topk kthvalue cummax cummin")
_JOINS = _names("add maximum minimum fmax fmin where index_add scatter scatter_add index_put _index_put_impl")
"""Operations whose results are values of any operand, or sums of them."""
_CHOICES = _names("amax amin max min median sort topk kthvalue cummax cummin maximum minimum fmax fmin where")
"""Of the reductions and joins, those whose every value is one of an operand's."""
_CHOOSING_POOLS = ("max_pool", "upsample_nearest", "reflection_pad", "replication_pad")
"""What names have of pooling whose every value is one of its operand's."""
_POSITIVE = _names(
    "sigmoid exp exp2 _softmax square hardsigmoid relu relu6 abs linalg_vector_norm norm var std cosh rand rand_like "
    "bernoulli poisson count_nonzero argmax argmin bincount _cdist_forward multinomial"
)
"""Operations that compute nothing below zero."""
_POSITIVE_OR_SCALED = _names("softplus uniform")
"""The same, unless a number among their arguments is below zero."""
_SIGN_KEEPING = _names(
    "tanh floor round ceil trunc sqrt rsqrt reciprocal log1p expm1 asinh atan erf sign sgn prod cumprod pow silu gelu "
    "elu leaky_relu hardswish mish celu softsign sinh mm bmm mv dot convolution prelu _prelu_kernel frac "
    "native_dropout hardshrink softshrink"
)
"""Operations that compute nothing below zero of operands that are nowhere below zero."""
_SIGN_KEEPING_OR_SCALED = _names("addmm addmv addbmm baddbmm addcmul nan_to_num clamp clamp_max hardtanh mul div")
"""The same, unless a number among their arguments is below zero."""
_CONSTANTS = _names(
    "zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full zero fill arange eye linspace "
    "scalar_tensor tril_indices triu_indices"
)
_PRODUCTS = _names("mm bmm mv dot addmm addmv addbmm baddbmm convolution")
_UNWRITTEN = _names("empty empty_like new_empty empty_strided new_empty_strided")


@dataclass(frozen=True)
class Operation:
    """One operation that was run."""

    name: str
    """As torch has it, without the underscore of one that works in place."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    def numbers(self, first: int = 1) -> list[float]:
        """The numbers among its arguments from ``first`` on; axes are numbers too."""
        leaves = tree_leaves((self.args[first:], self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, int | float) and not isinstance(leaf, bool)]


def passed(operation: Operation, origins: list[Origin]) -> Origin | None:
    """What the result comes from, where spikes pass through the operation; None where it computes something else.

    ``origins`` are those of the operands that are values, in their order.
    """
    name = operation.name
    if name in _CONSTANTS or name in _UNWRITTEN:
        return origins[-1] if name == "fill" and len(origins) > 1 else _constant(operation)
    if not origins:
        return None
    joined, first = reduce(or_, origins), origins[0]
    if name == "copy":
        return origins[-1]
    if name in _MOVES:
        return first
    if name in _PICKS:
        return replace(first, mixed=True)
    if name in _REDUCTIONS:
        return replace(joined, mixed=True, as_sent=joined.as_sent and name in _CHOICES)
    if name.startswith(_POOLS):
        nonnegative = joined.nonnegative and min(operation.numbers(), default=0) >= 0
        as_sent = joined.as_sent and any(kind in name for kind in _CHOOSING_POOLS)
        return replace(joined, mixed=True, as_sent=as_sent, nonnegative=nonnegative)
    if name in ("cat", "stack"):
        return joined
    if name in ("constant_pad_nd", "masked_fill"):
        return _with_numbers(joined, operation.numbers(2))
    if name in _JOINS:
        # A condition is no value.
        joined = reduce(or_, origins[1:], Origin()) if name == "where" else joined
        as_sent = joined.as_sent and name in _CHOICES
        return replace(_with_numbers(joined, _summands(operation)), mixed=True, as_sent=as_sent)
    if name in ("sub", "rsub", "neg"):
        return replace(_with_numbers(joined, _summands(operation)), mixed=True, as_sent=False, nonnegative=False)
    if name.startswith("clamp") and len(origins) > 1:
        # The larger, or the smaller, of two tensors' values.
        return replace(joined, mixed=True)
    if name in ("relu", "abs", "clamp_min") or (name == "clamp" and len(operation.args) == 2):
        # The identity, where nothing is below zero; of a neuron's currents, it would not be.
        raises = max(operation.numbers(), default=0) > 0
        return replace(first, mixed=True) if first.nonnegative and not raises else None
    return _scaled(operation, origins)


def _with_numbers(origin: Origin, numbers: list[float]) -> Origin:
    """Of values of ``origin`` and of numbers."""
    return replace(
        origin,
        other=origin.other or any(number != 0 for number in numbers),
        nonnegative=origin.nonnegative and min(numbers, default=0) >= 0,
    )


def _summands(operation: Operation) -> list[float]:
    """The numbers that are added, or that an operand is multiplied by before it is; 1 changes nothing."""
    factors = [value for key, value in operation.kwargs.items() if key in ("alpha", "value")]
    numbers = [leaf for leaf in operation.args[1:] if isinstance(leaf, int | float)]
    indexing = operation.name.startswith(("index", "_index", "scatter"))
    return ([] if indexing else numbers) + [factor for factor in factors if factor != 1]


def _scaled(operation: Operation, origins: list[Origin]) -> Origin | None:
    """A product is linear in one operand's spikes; a quotient in those above the line."""
    if operation.name not in ("mul", "div") or sum(bool(origin.neurons) for origin in origins) > 1:
        return None
    divisors = origins[1:] if operation.name == "div" else []
    if operation.args[0] is operation.args[1] or any(origin.neurons for origin in divisors):
        return None
    joined = reduce(or_, origins)
    nonnegative = joined.nonnegative and min(operation.numbers(), default=0) >= 0
    return replace(joined, mixed=True, as_sent=False, nonnegative=nonnegative)


def computed(operation: Operation, origins: list[Origin]) -> Origin:
    """What is known of a result that no spikes pass into."""
    name, args, numbers = operation.name, operation.args, operation.numbers()
    low = args[1] if len(args) > 1 else operation.kwargs.get("min")
    lowest, keeps = min(numbers, default=0), all(origin.nonnegative for origin in origins)
    positive = name in _POSITIVE or (name in _SIGN_KEEPING and keeps)
    positive |= lowest >= 0 and (name in _POSITIVE_OR_SCALED or (name in _SIGN_KEEPING_OR_SCALED and keeps))
    if name in ("clamp", "clamp_min", "hardtanh", "threshold"):
        positive = lowest >= 0 and (keeps or (isinstance(low, int | float) and low >= 0))
    if name == "mul":
        positive |= args[0] is args[1]
    if name == "pow" and isinstance(low, int | float):
        positive |= low % 2 == 0
    return POSITIVE if positive else UNKNOWN


def reaching_layers(operation: Operation, origins: list[Origin]) -> frozenset[nn.Module]:
    """The layers whose results reach that of the operation: all that reach its operands, but through no product."""
    name = operation.name
    if name in _PRODUCTS or name in _CONSTANTS or name in _UNWRITTEN:
        return frozenset()
    return frozenset().union(*(origin.layers for origin in origins))


def _constant(operation: Operation) -> Origin:
    result = operation.result
    if operation.name in _UNWRITTEN or not isinstance(result, Tensor):
        return Origin()
    return Origin(other=bool(result.any()), nonnegative=bool((result >= 0).all()))
