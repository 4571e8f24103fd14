"""The C of a packed network, compiled on this machine and run on whole batches."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bitsearch.deploy.formats.c.source import render, sources
from bitsearch.deploy.integer.interpreter import encode
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.errors import InputError

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
COMPILERS = ("cc", "gcc", "clang")


def compiler() -> str:
    """The C compiler: ``CC`` of the environment, or the first of :data:`COMPILERS`; InputError if there is none."""
    chosen = os.environ.get("CC")
    for name in (chosen,) if chosen else COMPILERS:
        if shutil.which(name):
            return name
    raise InputError(
        f"CC is {chosen!r}, which is no program here; unset it, or give the name of a C compiler"
        if chosen
        else f"there is no C compiler here ({', '.join(COMPILERS)}); install one, or give its name in CC"
    )


@contextmanager
def compiled(packed: PackedNetwork, flags: Sequence[str] = ("-O2",)) -> Iterator[Callable[[Tensor], Tensor]]:
    """A function like :class:`.Replay`, on ``[N, ...]`` inputs, that runs a program which exists within the context.

    Args:
        packed: the network.
        flags: for the compiler, beside :data:`STRICT`.

    Raises:
        InputError: there is no compiler, or it or the program fails; names it.
    """
    name, source = compiler(), sources(packed)
    with tempfile.TemporaryDirectory(prefix="bitsearch-c-") as folder:
        files = {"network.h": source.header, "network.c": source.code, "stream.c": render("stream.c.jinja")}
        for file, text in files.items():
            Path(folder, file).write_text(text, encoding="ascii")
        _run([name, *STRICT, *flags, "-o", "stream", "network.c", "stream.c"], folder)

        def outputs(x: Tensor) -> Tensor:
            rows = encoded(x, packed).numpy()
            written = np.frombuffer(_run([str(Path(folder, "stream"))], folder, rows.tobytes()), np.int64)
            return torch.from_numpy(written.copy()).reshape(len(rows), *packed.analysis.values[-1].shape)

        yield outputs


def _run(command: list[str], folder: str, standard_input: bytes = b"") -> bytes:
    ended = subprocess.run(command, input=standard_input, capture_output=True, cwd=folder, check=False)
    if ended.returncode:
        message = (ended.stderr.decode(errors="replace").strip() or f"exit code {ended.returncode}").splitlines()
        raise InputError(f"{Path(command[0]).name} fails on the C of this network: {message[0]}")
    return ended.stdout


def encoded(x: Tensor, packed: PackedNetwork) -> Tensor:
    """What the C is given of a batch of inputs: int32 ``[N, integers of an input]``."""
    network_input = packed.program.input
    currents = encode(x, network_input)
    if network_input.frames is None:
        return currents.flatten(1)
    frames = currents.unflatten(0, (network_input.frames, -1))
    result: Tensor = frames[0].flatten(1) if network_input.repeated else frames.transpose(0, 1).flatten(1)
    return result
