"""Which layers of a network share which numbers."""

from collections.abc import Iterable, Mapping, Sequence

from bitsearch.choices import Number, Tie
from bitsearch.cost.geometry import LayerGeometry
from bitsearch.errors import InputError

Groups = Mapping[str, tuple[str, ...]]
"""By layer, the layers that share a number with it, itself included, in the order they run."""


def ties_of(layers: Sequence[LayerGeometry]) -> tuple[Tie, ...]:
    """The ties that the network itself makes: layers with bits whose weight is one parameter have one weight width."""
    owners: dict[str, list[str]] = {}
    for layer in layers:
        if layer.fixed_reason is None:
            owners.setdefault(layer.weight_of or layer.name, []).append(layer.name)
    return tuple(
        Tie(layers=tuple(names), share=frozenset({"weight_bits"}), why="one weight")
        for names in owners.values()
        if len(names) > 1
    )


def groups_of(ties: Iterable[Tie], number: Number, names: Sequence[str]) -> Groups:
    """All ``names``, each with those that share ``number`` with it; ties that have a layer in common are one.

    Raises:
        InputError: a tie names a layer that is not there.
    """
    groups = {name: {name} for name in names}
    for tie in ties:
        unknown = next((name for name in tie.layers if name not in groups), None)
        if unknown is not None:
            raise InputError(f"the tie {tie} names {unknown!r}; the layers that get bits: {', '.join(names)}")
        if number in tie.share:
            joined = set().union(*(groups[name] for name in tie.layers))
            groups |= dict.fromkeys(joined, joined)
    return {name: tuple(other for other in names if other in group) for name, group in groups.items()}
