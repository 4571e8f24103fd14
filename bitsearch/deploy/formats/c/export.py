"""The folder that ``bitsearch deploy --format c`` writes: the network, test vectors, and how to compile them."""

import tempfile
from pathlib import Path

from torch import Tensor

from bitsearch.data import batches
from bitsearch.deploy.formats.c.compiled import encoded
from bitsearch.deploy.formats.c.source import Sources, numbers_text, render, sources
from bitsearch.deploy.formats.format import ExportRequest, ExportResult
from bitsearch.deploy.formats.new_folder import new_folder
from bitsearch.deploy.integer.packed_file import PackedNetwork, read
from bitsearch.deploy.pack import pack
from bitsearch.files import write_whole
from bitsearch.network_inputs import single_input

VECTORS = 10
"""Samples among the test vectors, at most."""
LARGEST_VECTORS = 1 << 18
"""Integers that their inputs may have together; one sample may have more."""


def export(request: ExportRequest) -> ExportResult:
    """Write the C of the packed file that :func:`bitsearch.pack` makes; InputError as it."""
    task = request.task
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "packed")
        pack(request.network, task.examples, file, request.plan, task.splits, task.model.target)
        packed = read(file)
    inputs, _ = next(iter(batches(task.splits.last_read, VECTORS)))
    source = export_c(packed, single_input(inputs, "a packed file"), request.output)
    return ExportResult(
        (
            f"{request.output}: C99; `make test` there compares it with the integer replay, `make microcontroller` "
            "on an emulated Cortex-M3",
            f"constants {source.constant_bytes} bytes, static memory {source.memory_bytes} bytes; "
            f"the plan: {plan_costs(packed)}",
        )
    )


def export_c(packed: PackedNetwork, samples: Tensor, path: Path) -> Sources:
    """Write ``path``, a new folder, whole or not at all.

    Args:
        packed: the network.
        samples: a batch of inputs ``[N, ...]`` or ``[F, N, ...]``, of which test vectors are made.
        path: a folder that is not there yet, or empty.

    Raises:
        InputError: a layer with more time steps than are written out, or a folder that cannot be written.
    """
    source = sources(packed)
    rows = encoded(samples, packed)
    count = max(min(len(rows), LARGEST_VECTORS // rows.shape[1]), 1)
    outputs = packed.replay()(samples).flatten(1)
    vectors = render(
        "test_vectors.c.jinja",
        count=count,
        inputs=[numbers_text(row) for row in rows[:count].tolist()],
        outputs=[numbers_text(row) for row in outputs[:count].tolist()],
    )
    with new_folder(path) as draft:
        write_whole(draft / "network.h", source.header)
        write_whole(draft / "network.c", source.code)
        write_whole(draft / "test_vectors.c", vectors)
        write_whole(draft / "Makefile", render("Makefile.jinja", plan_costs=plan_costs(packed)))
        for name in ("cortex_m3.c", "cortex_m3.ld"):
            write_whole(draft / name, render(name))
    return source


def plan_costs(packed: PackedNetwork) -> str:
    """What the cost model says of the plan's memory, in bytes."""
    costs = {} if packed.plan is None else packed.plan.costs
    parts = [f"{name} {costs[name]:.0f} bytes" for name in ("weight_memory", "working_memory") if name in costs]
    return ", ".join(parts) or "no costs"
