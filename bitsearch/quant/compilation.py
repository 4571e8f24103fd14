"""Compiled kernels: the element-wise work of a quantizer fused by ``torch.compile``.

Only the pure kernels of this room are compiled, for any shape at once, never a user's network: a handful of small
compilations whatever the network is, and none when bits, steps or layers change (one more per number of time steps).
"""

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

VARIANTS = 64
"""Most compilations of one kernel: time steps × signed or not × ranks."""

_active = False


def compilable(kernel: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Run ``kernel`` as it is, or compiled inside :func:`compiled_quantizers`."""
    compiled = functools.cache(lambda: torch.compile(kernel, dynamic=True))

    @functools.wraps(kernel)
    def call(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        chosen = compiled() if _active else kernel
        return chosen(*arguments, **options)

    return call


def can_compile(device: torch.device) -> bool:
    """True if the compiler that kernels on ``device`` need is there: a C++ compiler, or Triton for a GPU."""
    if device.type == "cpu":
        return any(shutil.which(compiler) for compiler in (os.environ.get("CXX", "g++"), "clang++"))
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


@contextmanager
def compiled_quantizers() -> Iterator[None]:
    """Inside, quantizers train with compiled kernels; evaluation always runs the plain ones, bit for bit the same.

    The first call of each kernel compiles it, which takes seconds and needs a C++ compiler (CPU) or Triton (GPU).
    """
    global _active
    before, _active = _active, True
    try:
        with (
            torch._dynamo.config.patch(recompile_limit=VARIANTS, specialize_float=True),
            # Part of the key that compiled code is kept under: it has its number of threads built in.
            torch._inductor.config.patch({"cpp.threads": torch.get_num_threads()}),
        ):
            yield
    finally:
        _active = before
