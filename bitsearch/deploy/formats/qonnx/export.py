"""The export to QONNX: the graph of a packed network as a file, run by QONNX's executor on the test split."""

import tempfile
from pathlib import Path

from bitsearch.deploy.formats.format import ExportRequest, ExportResult
from bitsearch.deploy.formats.qonnx.check import compare, executed
from bitsearch.deploy.formats.qonnx.quantized import quantized_model
from bitsearch.deploy.integer.packed_file import read
from bitsearch.deploy.pack import pack
from bitsearch.files import write_whole


def export(request: ExportRequest) -> ExportResult:
    """Write the graph of the packed file that :func:`bitsearch.pack` makes, and run it; InputError as it."""
    task = request.task
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "packed")
        pack(request.network, task.examples, file, request.plan, task.splits, task.model.target)
        packed = read(file)
    model = quantized_model(packed)
    write_whole(request.output, model.SerializeToString())
    agreement = compare(packed, executed(model), task.splits.last_read, task.space.training.at_once)
    return ExportResult(
        (agreement.line(f"{request.output}, run by QONNX"),), equal=agreement.agreeing == agreement.samples
    )
