"""The C files of a packed network: what a template shows of it, and nothing that a name could smuggle in."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from textwrap import fill

from jinja2 import Environment, PackageLoader, StrictUndefined

from bitsearch.deploy.formats.c.memory import bytes_of
from bitsearch.deploy.formats.c.steps import Plan, Step, Value, plan_steps
from bitsearch.deploy.integer.bitpacking import pack_bits
from bitsearch.deploy.integer.operations import RunLayer, RunSynapses
from bitsearch.deploy.integer.packed_file import PackedNetwork, stored_levels
from bitsearch.deploy.integer.packed_layer import exponents
from bitsearch.deploy.integer.rounding import odd_part

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class Array:
    """Constants."""

    type: str
    name: str
    size: int
    comment: str
    numbers: str

    @property
    def bytes(self) -> int:
        """In flash."""
        return self.size * bytes_of(self.type.removeprefix("u"))


@dataclass(frozen=True)
class Sources:
    """``network.h`` and ``network.c`` of a packed network."""

    header: str
    code: str
    constant_bytes: int
    memory_bytes: int
    output_type: str


def sources(packed: PackedNetwork) -> Sources:
    """Written from templates; InputError as :func:`.plan_steps`."""
    plan = plan_steps(packed)
    arrays = list(_arrays(packed, plan))
    constant_bytes = sum(array.bytes for array in arrays)
    memory_bytes = sum(size * bytes_of(kind) for kind, size in plan.sizes.items())
    network_input, environment = packed.program.input, _environment()
    shown = {
        "title": plain("" if packed.plan is None else packed.plan.network) or "a network",
        "shape": " x ".join(map(str, network_input.shape)),
        "frames": not network_input.repeated and network_input.frames,
        "fraction": network_input.fraction,
        "largest": network_input.largest,
        "input_size": plan.values[0].steps * plan.values[0].count,
        "output_size": plan.output.count,
        "output_fraction": plan.output.range.fraction,
        "output_type": plan.output.type,
        "meaning": f", {network_input.frames} times the mean over the frames" if network_input.frames else "",
        "constant_bytes": constant_bytes,
        "memory_bytes": memory_bytes,
    }
    code = environment.get_template("network.c.jinja").render(
        shown,
        arrays=arrays,
        sizes=plan.sizes,
        functions=[_function(environment, step) for step in plan.steps if not _moves_nothing(step)],
        calls=[_call(step, plan) for step in plan.steps if not _moves_nothing(step)],
    )
    header = environment.get_template("network.h.jinja").render(shown)
    return Sources(header, code, constant_bytes, memory_bytes, plan.output.type)


def render(template: str, **shown: object) -> str:
    """Any other file of the folder."""
    return _environment().get_template(template).render(shown)


def plain(name: str) -> str:
    """``name`` as a word that a comment of C may hold: letters, digits and ``_.-``, all else ``_``."""
    return _NOT_PLAIN.sub("_", name)


def numbers_text(numbers: Iterable[int]) -> str:
    """Constants between the braces of a C array."""
    return fill(", ".join(map(constant, numbers)), 116, initial_indent="    ", subsequent_indent="    ")


def _arrays(packed: PackedNetwork, plan: Plan) -> Iterator[Array]:
    """Constants of the layers whose weights are run, every array once."""
    names = list(packed.program.layers)
    runs = [step for step in plan.steps if isinstance(step.operation, RunLayer | RunSynapses)]
    for index in sorted({step.weight_index for step in runs if step.weight_index is not None}):
        layer = packed.program.layers[names[index]]
        weight = pack_bits(stored_levels(packed.numbers[names[index]], layer), layer.weight_bits)
        comment = f"{plain(names[index])}: {prod(layer.weight_shape)} of {layer.weight_bits} bits"
        yield Array("uint8_t", f"weight_{index}", len(weight), comment, numbers_text(weight.tolist()))
    for index in sorted({step.layer_index for step in runs if step.layer_index is not None}):
        layer, numbers, comment = packed.program.layers[names[index]], packed.numbers[names[index]], plain(names[index])
        count = layer.outputs
        if layer.scale is None:
            yield Array("int32_t", f"multiplier_{index}", count, comment, numbers_text(numbers.multiplier.tolist()))
        elif len(set(numbers.multiplier.tolist())) > 1:
            shifts = exponents(numbers.multiplier).tolist()
            yield Array("uint8_t", f"exponent_{index}", count, f"{comment}: shifts to the left", numbers_text(shifts))
        yield Array("int32_t", f"bias_{index}", count, comment, numbers_text(numbers.bias.tolist()))


def _moves_nothing(step: Step) -> bool:
    return step.operation.op == "reshape" and step.in_place


def _function(environment: Environment, step: Step) -> str:
    restrict = "" if step.in_place else "restrict "
    names = ["x"] if len(step.inputs) == 1 else [f"x{number}" for number in range(len(step.inputs))]
    parameters = [f"const {value.type} *{restrict}{name}" for name, value in zip(names, step.inputs, strict=True)]
    shapes = ", ".join(_shape(value) for value in step.inputs)
    comment = f"/* {plain(step.operation.name)}: {step.operation.op} of {shapes} to {_shape(step.result)} */\n"
    return comment + environment.get_template(f"operations/{step.operation.op}.c.jinja").render(
        step=step,
        name=f"operation_{step.index}",
        parameters=", ".join([*parameters, f"{step.result.type} *{restrict}y"]),
    )


def _shape(value: Value) -> str:
    shape = " x ".join(map(str, value.range.shape))
    return shape if value.steps == 1 else f"{value.steps} times {shape}"


def _call(step: Step, plan: Plan) -> str:
    def memory(value: Value) -> str:
        if value.buffer is None:
            return "input"
        return "output" if value.buffer is plan.output.buffer else str(value.buffer)

    return f"operation_{step.index}({', '.join(map(memory, (*step.inputs, step.result)))});"


def constant(number: int) -> str:
    """An integer constant of C99, wide enough wherever an int has 16 bits; negative ones in brackets."""
    magnitude = abs(number)
    text = str(magnitude) if magnitude < 1 << 15 else f"INT{32 if magnitude < 1 << 31 else 64}_C({magnitude})"
    return f"(-{text})" if number < 0 else text


def _stored(frame: str, stored: int, counted: int, frames: int) -> str:
    """Number of the stored frame for one of ``counted``; all of a value are ``frames``."""
    if stored == 1:
        return "0"
    return frame if stored == counted else f"({frame} * {stored} / {frames})"


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns) of a channel."""
    return _pair(shape[1:], 1)


def _pair(numbers: tuple[int, ...], first: int) -> tuple[int, int]:
    """Two numbers, by row and column; ``first`` for those that are not there."""
    row, column = (first,) * (2 - len(numbers)) + numbers
    return row, column


@cache
def _environment() -> Environment:
    # What is written is C; names pass through `plain`, and everything else is a number or ours.
    environment = Environment(  # nosec B701
        loader=PackageLoader("bitsearch.deploy.formats.c"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "constant": constant,
        "odd_part": odd_part,
        "stored": _stored,
        "plane": _plane,
        "pair": _pair,
    }
    return environment
