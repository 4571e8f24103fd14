"""hls4ml: the graph with quantizers as C++ in fixed point, compiled here and run beside the integer replay."""

import io
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from math import gcd, prod
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from bitsearch.deploy.formats.format import ConsumerRequest, ExportResult
from bitsearch.deploy.formats.qonnx.check import compare
from bitsearch.deploy.formats.qonnx.graph import INPUT
from bitsearch.deploy.formats.qonnx.quantized import quantized_model
from bitsearch.deploy.integer.operations import RunLayer
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.errors import InputError


def check(request: ConsumerRequest) -> ExportResult:
    """Convert, compile and run the network; InputError as :func:`compiled`."""
    width, whole = precision(request.packed)
    with compiled(request.packed) as run:
        agreement = compare(request.packed, run, request.samples, request.batch_size)
    return agreement.result(f"hls4ml in fixed<{width},{whole}>", exact=False)


def precision(packed: PackedNetwork) -> tuple[int, int]:
    """(bits, bits in front of the point) of fixed-point numbers in which no current is off by more than its last bit.

    A factor of sums that come to A has to be as fine as a current's last bit divided by A, and one bit more. The input
    has a type of its own.
    """
    fine, whole = 0, 1
    for value in packed.analysis.values[1:]:
        whole = max(whole, value.bits - value.fraction)
    for index, run in packed.program.runs():
        layer, numbers = packed.program.layers[run.layer], packed.numbers[run.layer]
        widths = packed.analysis.operations[index].widths
        assert widths is not None
        if isinstance(run, RunLayer):
            unit = gcd(*numbers.steps.tolist()) * 2.0**-layer.step_fraction
        else:
            unit = 2.0 ** -packed.analysis.operations[index].inputs[0].fraction
        most = max(int((widths.accumulator or 0) * unit), 1).bit_length()
        fine, whole = max(fine, layer.fraction + most + 1), max(whole, most + 1)
    return fine + whole, whole


@contextmanager
def compiled(packed: PackedNetwork) -> Iterator[Callable[[Tensor], Tensor]]:
    """A function of batches ``[N, ...]`` that runs hls4ml's C++ of a packed network, within the context.

    Raises:
        InputError: hls4ml or its compiler is not here, or hls4ml cannot take the network; says why.
    """
    if find_spec("hls4ml") is None:
        raise InputError("hls4ml is not installed; run: pip install 'bitsearch[hls4ml]'")
    if shutil.which("g++") is None:
        raise InputError("hls4ml compiles with g++, which is not here; install it")
    if packed.program.input.frames is not None:
        raise InputError("hls4ml has no time axis that is unrolled in one graph; give it a network of images")
    with TemporaryDirectory(prefix="bitsearch-hls-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            network = _converted(packed, folder)
        except Exception as error:  # whatever it raises of nodes that it has not
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"hls4ml cannot take this network: {reason}") from error

        def outputs(inputs: Tensor) -> Tensor:
            last = inputs.movedim(1, -1) if inputs.dim() > 2 else inputs
            with redirect_stdout(io.StringIO()):
                rows = network.predict(np.ascontiguousarray(last.numpy(), dtype=np.float32))
            shape = packed.analysis.values[-1].shape
            return torch.from_numpy(np.asarray(rows).reshape(len(inputs), prod(shape)))

        yield outputs


def _converted(packed: PackedNetwork, folder: str):  # type: ignore[no-untyped-def]  # hls4ml's, optional
    """The network that hls4ml makes of the graph, channels last, compiled."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        import hls4ml
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
        from qonnx.util.cleanup import cleanup_model

        width, whole = precision(packed)
        graph = cleanup_model(ModelWrapper(quantized_model(packed)))
        graph = cleanup_model(graph.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True)))
        settings = hls4ml.utils.config_from_onnx_model(
            graph, granularity="name", backend="Vitis", default_precision=f"fixed<{width},{whole}>"
        )
        # Cut off one bit behind those of the encoding, which rounds: the same whole numbers come of it.
        bits, fraction = packed.program.input.largest.bit_length() + 2, packed.program.input.fraction
        settings["LayerName"][INPUT]["Precision"]["result"] = f"fixed<{bits},{bits - 1 - fraction}>"
        network = hls4ml.converters.convert_from_onnx_model(
            graph, output_dir=folder, backend="Vitis", io_type="io_parallel", hls_config=settings
        )
        network.compile()
    return network
