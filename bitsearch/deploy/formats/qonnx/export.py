"""The export to QONNX: the graph of a packed network as a file, run by QONNX's executor on the test split."""

import tempfile
from dataclasses import replace
from pathlib import Path

from bitsearch.deploy.formats.format import ExportRequest, ExportResult
from bitsearch.deploy.formats.qonnx.check import compare, executed
from bitsearch.deploy.formats.qonnx.quantized import quantized_model
from bitsearch.deploy.formats.qonnx.thresholds import threshold_model
from bitsearch.deploy.formats.shared_steps import share_steps_of
from bitsearch.deploy.integer.packed_file import read
from bitsearch.deploy.pack import pack
from bitsearch.files import write_whole


def export(request: ExportRequest) -> ExportResult:
    """Write the graph of the packed file that :func:`bitsearch.pack` makes, and run it.

    Raises:
        InputError: as it, as :func:`.threshold_model`, or a network that QONNX's executor cannot run.
    """
    task = request.task
    lines = (share_steps_of(request),) if request.share_steps else ()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "packed")
        pack(request.network, task.examples, file, request.plan, task.splits, task.model.target)
        packed = read(file)
    model = threshold_model(packed) if request.thresholds else quantized_model(packed)
    agreement = compare(packed, executed(model), task.splits.last_read, task.space.training.at_once)
    write_whole(request.output, model.SerializeToString())
    result = agreement.result(f"{request.output}, run by QONNX", exact=request.thresholds)
    return replace(result, lines=(*lines, *result.lines))
