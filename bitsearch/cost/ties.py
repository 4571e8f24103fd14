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


def resolved(
    layers: Sequence[LayerGeometry], rules: Iterable[Tie | TieRule] = (), *, one_spike_stream: bool = False
) -> tuple[Tie, ...]:
    """All ties of a network's layers: those that it makes itself, and those by rules.

    Args:
        layers: of the network.
        rules: ties of layers by name, or by globs.
        one_spike_stream: True on hardware on which neurons have one stream of spikes, whoever reads it.

    Raises:
        InputError: a glob that matches no layer, or a rule that ties none.
    """
    with_bits = [layer for layer in layers if layer.fixed_reason is None]
    names = [layer.name for layer in with_bits]
    ties = [*ties_of(layers)]
    for rule in rules:
        if isinstance(rule, Tie):
            ties.append(rule)
            continue
        check_globs("[[ties]]", rule.match, names)
        matched = [layer for layer in with_bits if matches(layer.name, rule.match)]
        ties += _by_stream(matched, f"[[ties]] {rule}") if rule.share == "streams" else [_of_rule(rule, matched)]
    if one_spike_stream:
        ties += _by_stream(with_bits, "the target's one_spike_stream")
    return tuple(ties)


def populations(layers: Sequence[LayerGeometry], ties: Iterable[Tie]) -> dict[str, str]:
    """Of every layer that reads the spikes of another's neurons, that other layer, the first.

    Layers that read the same values have neurons in common where a tie has them share their spikes; without it, each
    has a population of its own: another step size is another threshold.
    """
    sharing = groups_of(ties, "spike_bits", [layer.name for layer in layers])
    owners = {}
    for layer in layers:
        source = layer.source or layer.name
        members = [other for other in layers if (other.source or other.name) == source and not other.in_place]
        owner = next((other.name for other in members if other.name in sharing[layer.name]), layer.name)
        if owner != layer.name:
            owners[layer.name] = owner
    return owners


def _by_stream(layers: Sequence[LayerGeometry], why: str) -> list[Tie]:
    streams = [(layer.source or layer.name, layer.name) for layer in layers]
    return list(_ties(streams, {"spike_bits", "time_steps"}, f"one stream of spikes: {why}"))


def _of_rule(rule: TieRule, layers: Sequence[LayerGeometry]) -> Tie:
    names = tuple(layer.name for layer in layers)
    if len(names) < 2:
        raise InputError(f"[[ties]] match {rule} is the name of {names[0]!r} alone; name at least two layers")
    assert rule.share != "streams"
    return Tie(layers=names, share=frozenset(rule.share), why=f"[[ties]] {rule}")


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
