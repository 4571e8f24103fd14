"""Compiled kernels: the element-wise work of a quantizer fused by ``torch.compile``.

Only the pure kernels of this package are compiled, each for any shape, and never a user's network. A few small
compilations suffice for any network; a change of bits, steps or layers needs none, a new number of time steps one.
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

MAX_COMPILATIONS = 64
"""Limit of the compilations of one kernel: time steps × signed or not × ranks."""

_is_active = False


def compilable(kernel: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate a kernel, which runs compiled inside :func:`compiled_quantizers` and plain elsewhere."""
    compiled_kernel = functools.cache(lambda: torch.compile(kernel, dynamic=True))

    @functools.wraps(kernel)
    def call(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        function = compiled_kernel() if _is_active else kernel
        return function(*arguments, **options)

    return call


def can_compile(device: torch.device) -> bool:
    """True if the compiler for kernels on ``device`` is installed: a C++ compiler for a CPU, Triton for a GPU."""
    if device.type == "cpu":
        return any(shutil.which(compiler) for compiler in (os.environ.get("CXX", "g++"), "clang++"))
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


@contextmanager
def compiled_quantizers() -> Iterator[None]:
    """A context in which quantizers train with compiled kernels; evaluation always runs the plain kernels.

    The first call of each kernel compiles it, which takes seconds and needs a C++ compiler (CPU) or Triton (GPU).
    """
    global _is_active
    was_active, _is_active = _is_active, True
    try:
        with (
            torch._dynamo.config.patch(recompile_limit=MAX_COMPILATIONS, specialize_float=True),
            # Compiled code contains its number of threads, so that the number has to be part of the cache's key.
            torch._inductor.config.patch({"cpp.threads": torch.get_num_threads()}),
        ):
            yield
    finally:
        _is_active = was_active
