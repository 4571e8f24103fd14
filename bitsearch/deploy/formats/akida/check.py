"""Akida's software backend beside the integer replay of a packed file, on whole splits."""

import torch

from bitsearch.deploy.formats.akida.chip import chip_network
from bitsearch.deploy.formats.akida.encoded import encoded_batches
from bitsearch.deploy.formats.akida.export import thresholds
from bitsearch.deploy.formats.akida.model import AkidaRuns, nodes
from bitsearch.deploy.formats.akida.replay import logits, replay
from bitsearch.deploy.formats.format import ConsumerRequest, ExportResult


@torch.no_grad()
def check(request: ConsumerRequest) -> ExportResult:
    """Run the network in Akida, and compare every activation, every sum and every prediction.

    Raises:
        InputError: as :func:`bitsearch.deploy.formats.akida.export.export`.
    """
    packed = request.packed
    network = chip_network(packed)
    runs = AkidaRuns(network)
    samples = equal = predicted = activations = different = 0
    for batch in encoded_batches(packed, network, request.samples, request.batch_size):
        expected, results = replay(network, batch.codes), runs(batch.codes)
        for name, values in expected.activations.items():
            activations += values.numel()
            different += int((results.activations[name] != values).sum())
        same = (results.sums == expected.sums).flatten(1).all(1)
        outputs = logits(network, results.sums).reshape(batch.outputs.shape)
        alike = (outputs.argmax(1) == batch.outputs.argmax(1)).reshape(len(same), -1).all(1)
        samples, equal, predicted = samples + len(same), equal + int(same.sum()), predicted + int(alike.sum())
    count = nodes(runs.model)
    return ExportResult(
        (
            f"Akida, {count} nodes of an AKD1000: {equal} of {samples} samples have the outputs of the integer replay "
            f"with Akida's thresholds; {different} of {activations} activations differ",
            f"{thresholds(network)}; {predicted} of {samples} samples are predicted as with the network's",
        ),
        equal=equal == samples and not different,
    )
