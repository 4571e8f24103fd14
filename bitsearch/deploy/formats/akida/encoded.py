"""What the host makes of samples for an Akida network, and what the packed network makes of the same samples."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from bitsearch.data import batches
from bitsearch.data.splits import Samples
from bitsearch.deploy.formats.akida.layers import AkidaNetwork
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.network_inputs import single_input


@dataclass(frozen=True)
class EncodedBatch:
    """A batch in the packed network."""

    codes: Tensor
    """The spikes of its input, which an Akida network reads."""
    outputs: Tensor
    """Its logits, integers."""
    targets: Tensor


def encoded_batches(
    packed: PackedNetwork, network: AkidaNetwork, samples: Samples, batch_size: int
) -> Iterator[EncodedBatch]:
    """All samples, in order."""
    replay = packed.replay()
    for batch, targets in batches(samples, batch_size):
        sent: dict[str, Tensor] = {}

        def observe(name: str, quantity: str, _: int, integers: Tensor, sent: dict[str, Tensor] = sent) -> None:
            if quantity == "spikes" and name == network.encoder:
                sent[name] = integers

        outputs = replay(single_input(batch, "a packed file"), observe)
        yield EncodedBatch(sent[network.encoder], outputs, targets)
