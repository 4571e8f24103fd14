"""The packed file as an export format: integers at exactly their bit widths, and the program that runs them."""

from bitsearch.deploy.formats.format import ExportRequest, ExportResult
from bitsearch.deploy.pack import pack


def export(request: ExportRequest) -> ExportResult:
    """Write the file that :func:`bitsearch.pack` describes; InputError as it."""
    task = request.task
    size = pack(request.network, task.examples, request.output, request.plan, task.splits, task.model.target)
    return ExportResult((f"{request.output}: {size} bytes of packed weights and parameters",))
