"""Which layers of a network share which numbers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from bitsearch.choices import Number, Tie
from bitsearch.cost.geometry import LayerGeometry
from bitsearch.errors import InputError
from bitsearch.layer_rules import TieRule, check_globs, matches

Groups = Mapping[str, tuple[str, ...]]
"""By layer, the layers that share a number with it, itself included, in the order they run."""


def ties_of(layers: Sequence[LayerGeometry]) -> tuple[Tie, ...]:
    """The ties that the network itself makes: layers with one weight, and layers that read one stream of spikes.

    A weight has one width. A neuron that fires in front of pooling or sums sends the same to all that read it.
    """
    with_bits = [layer for layer in layers if layer.fixed_reason is None]
    weights = [(layer.weight_of or layer.name, layer.name) for layer in with_bits]
    streams = [(layer.stream_of or layer.name, layer.name) for layer in with_bits]
    return (
        *_ties(weights, {"weight_bits"}, "one weight"),
        *_ties(streams, {"spike_bits", "time_steps"}, "one stream of spikes, pooled or added up"),
    )


def resolved(ties: Iterable[Tie | TieRule], names: Sequence[str]) -> tuple[Tie, ...]:
    """Ties of layers by their names, for rules by globs.

    Raises:
        InputError: a glob that matches no layer, or a rule that matches one alone.
    """
    return tuple(tie if isinstance(tie, Tie) else _of_rule(tie, names) for tie in ties)


def _of_rule(rule: TieRule, names: Sequence[str]) -> Tie:
    check_globs("[[ties]]", rule.match, names)
    layers = tuple(name for name in names if matches(name, rule.match))
    if len(layers) < 2:
        raise InputError(f"[[ties]] match {rule} is the name of {layers[0]!r} alone; name at least two layers")
    return Tie(layers=layers, share=frozenset(rule.share), why=f"[[ties]] {rule}")


def _ties(owners: Iterable[tuple[str, str]], share: Set[Number], why: str) -> Iterator[Tie]:
    """Of pairs (owner, layer)."""
    groups: dict[str, list[str]] = {}
    for owner, name in owners:
        groups.setdefault(owner, []).append(name)
    for names in groups.values():
        if len(names) > 1:
            yield Tie(layers=tuple(names), share=frozenset(share), why=why)


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
