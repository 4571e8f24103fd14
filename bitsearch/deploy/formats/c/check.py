"""The C of a packed network beside the integer replay of the same file, on whole splits."""

import torch

from bitsearch.data import batches
from bitsearch.deploy.formats.c.compiled import compiled, compiler
from bitsearch.deploy.formats.format import ConsumerRequest, ExportResult
from bitsearch.network_inputs import single_input


@torch.no_grad()
def check(request: ConsumerRequest) -> ExportResult:
    """Compile and run it; InputError as :func:`.compiled`."""
    packed = request.packed
    replay = packed.replay()
    count = equal = 0
    with compiled(packed) as run:
        for batch, _ in batches(request.samples, request.batch_size):
            inputs = single_input(batch, "a packed file")
            same = (run(inputs) == replay(inputs)).flatten(1).all(1)
            count, equal = count + len(same), equal + int(same.sum())
    line = f"C, compiled by {compiler()}: {equal} of {count} samples have the outputs of the integer replay"
    return ExportResult((line,), equal=equal == count)
