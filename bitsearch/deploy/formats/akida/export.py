"""The export to Akida: a plan's network as a model file of BrainChip's."""

import tempfile
from pathlib import Path

import torch

from bitsearch.deploy.formats.akida.chip import chip_network
from bitsearch.deploy.formats.akida.encoded import encoded_batches
from bitsearch.deploy.formats.akida.layers import AkidaNetwork
from bitsearch.deploy.formats.akida.model import akida_model, nodes
from bitsearch.deploy.formats.akida.replay import logits, replay
from bitsearch.deploy.formats.format import ExportRequest, ExportResult
from bitsearch.deploy.integer.packed_file import PackedNetwork, read
from bitsearch.deploy.pack import pack
from bitsearch.files import write_whole


@torch.no_grad()
def export(request: ExportRequest) -> ExportResult:
    """Write the file, of a network that is mapped onto a virtual AKD1000.

    Raises:
        InputError: as :func:`bitsearch.pack`, :func:`.chip_network` and :func:`.akida_model`, or a network that is
            not mapped.
    """
    task = request.task
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "packed")
        pack(request.network, task.examples, file, request.plan, task.splits, task.model.target)
        packed = read(file)
    network = chip_network(packed)
    model = akida_model(network)
    content, count = bytes(model.to_buffer()), nodes(model)
    write_whole(request.output, content)
    return ExportResult(
        (
            f"{request.output}: for Akida; it takes {count} nodes of an AKD1000",
            f"its input: {encoding(network)}",
            thresholds(network) + _scores(request, packed, network),
        )
    )


def encoding(network: AkidaNetwork) -> str:
    """What the host makes of a sample, in words."""
    first = network.layers[0]
    turned = ", the image turned by 180°" if network.turned else ""
    offset = f" plus {network.offset}" if network.offset else ""
    return (
        f"uint8 [N, rows, columns, channels], the spikes of {network.encoder!r} in the packed file{offset}{turned}"
        + ("" if first.reads_image else f", {network.input_bits} bits")
    )


def thresholds(network: AkidaNetwork) -> str:
    """How far Akida's thresholds lie beside the network's, in words."""
    moved = [layer.moved for layer in network.layers]
    count, total = sum(int((one > 0).sum()) for one in moved), sum(one.size for one in moved)
    furthest = max((int(one.max(initial=0)) for one in moved), default=0)
    beside = f", by at most {furthest} of a sum's units" if count else ""
    return f"{count} of {total} thresholds lie beside the network's{beside}"


def _scores(request: ExportRequest, packed: PackedNetwork, network: AkidaNetwork) -> str:
    """Of the packed network and of what Akida makes of it."""
    task, fraction = request.task, packed.analysis.values[-1].fraction
    packed_outputs, outputs, targets = [], [], []
    for batch in encoded_batches(packed, network, task.splits.last_read, task.space.training.at_once):
        packed_outputs.append(batch.outputs.double() * 2.0**-fraction)
        outputs.append(logits(network, replay(network, batch.codes).sums).reshape(batch.outputs.shape))
        targets.append(batch.targets)
    scoring, name = task.learning_task.scoring, task.learning_task.score.name
    before, after = (scoring.of_all(torch.cat(rows), torch.cat(targets)) for rows in (packed_outputs, outputs))
    return f"; {name} {before:.4f} with the network's, {after:.4f} with Akida's"
