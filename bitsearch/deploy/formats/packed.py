"""The packed file as an export format: integers at exactly their bit widths, and the program that runs them."""

from bitsearch.deploy.formats.format import ExportRequest, ExportResult
from bitsearch.deploy.pack import pack


def export(request: ExportRequest) -> ExportResult:
    """Write the file that :func:`bitsearch.pack` describes; InputError as it."""
    size = pack(request.network, request.task.examples, request.output, request.plan, request.task.splits)
    return ExportResult((f"{request.output}: {size} bytes of packed weights and parameters",))
