"""A graph in QONNX's own executor, beside the integer replay of its packed file, on whole splits."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bitsearch.data import batches
from bitsearch.data.splits import Samples
from bitsearch.deploy.formats.format import ConsumerRequest, ExportResult
from bitsearch.deploy.formats.qonnx.graph import INPUT, OUTPUT
from bitsearch.deploy.formats.qonnx.quantized import quantized_model
from bitsearch.deploy.formats.qonnx.thresholds import threshold_model
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.errors import InputError
from bitsearch.network_inputs import single_input

if TYPE_CHECKING:
    import onnx
    from qonnx.core.modelwrapper import ModelWrapper


@dataclass(frozen=True)
class Agreement:
    """What :func:`compare` finds."""

    samples: int
    agreeing: int
    """Samples for which graph and integer replay predict the same class."""
    equal: int
    """Samples whose outputs are the same numbers."""
    difference: float
    """The largest between two outputs, as a share of the largest output."""

    def result(self, reader: str, *, exact: bool) -> ExportResult:
        """What to print, and whether every prediction is the replay's, of an ``exact`` graph every output."""
        line = (
            f"{reader}: {self.agreeing} of {self.samples} samples are predicted as by the integer replay; "
            f"outputs differ by at most {self.difference:.1e} of the largest"
        )
        return ExportResult((line,), equal=self.samples == (self.equal if exact else self.agreeing))


THRESHOLDS = "qonnx-thresholds"
"""The consumer that runs the graph with thresholds; the other one has quantizers."""
MOST_COMPARISONS = 1 << 26
"""Of numbers with thresholds, which a node does all at once, a byte each."""


def check(request: ConsumerRequest) -> ExportResult:
    """Run the network as a graph of the kind that the consumer's name says; InputError as :func:`.threshold_model`."""
    packed, thresholds = request.packed, request.consumer == THRESHOLDS
    model = threshold_model(packed) if thresholds else quantized_model(packed)
    agreement = compare(packed, executed(model), request.samples, request.batch_size)
    return agreement.result("QONNX", exact=thresholds)


@torch.no_grad()
def compare(
    packed: PackedNetwork, run: Callable[[Tensor], Tensor], samples: Samples, batch_size: int = 64
) -> Agreement:
    """Compare ``run``, of inputs ``[N, ...]``, ``[N, F, ...]`` with a time axis, with the integer replay."""
    replay, network_input = packed.replay(), packed.program.input
    fraction, frames = packed.analysis.values[-1].fraction, network_input.frames or 1
    by_frame = network_input.frames is not None and not network_input.repeated
    count, agreeing, equal, difference, largest = 0, 0, 0, 0.0, 0.0
    for batch, _ in batches(samples, batch_size):
        inputs = single_input(batch, "a packed file")
        integers = replay(inputs).double()
        expected = torch.ldexp(integers, torch.tensor(-fraction)) / frames
        outputs = run(inputs.transpose(0, 1) if by_frame else inputs).double()
        count += len(outputs)
        agreeing += int((outputs.argmax(1) == expected.argmax(1)).sum())
        equal += int((outputs == expected).flatten(1).all(1).sum())
        difference = max(difference, float((outputs - expected).abs().max()))
        largest = max(largest, float(expected.abs().max()))
    return Agreement(count, agreeing, equal, difference / largest if largest else difference)


def executed(model: "onnx.ModelProto") -> Callable[[Tensor], Tensor]:
    """A function of batches of any size that lets ``qonnx.core.onnx_exec`` run the graph, node by node.

    It raises an InputError where the executor, or ONNX Runtime in it, has no such node.
    """
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.change_batchsize import ChangeBatchSize
    from qonnx.transformation.infer_shapes import InferShapes

    of_size: dict[int, ModelWrapper] = {}

    def run_at_once(inputs: Tensor) -> Tensor:
        count = len(inputs)
        if count not in of_size:
            of_size[count] = ModelWrapper(model, make_deepcopy=True).transform(ChangeBatchSize(count))
            of_size[count] = of_size[count].transform(InferShapes())
        with warnings.catch_warnings():
            # Its own, of a quotient by a scale or of what numpy will do.
            warnings.simplefilter("ignore")
            try:
                outputs = execute_onnx(of_size[count], {INPUT: inputs.contiguous().numpy()})[OUTPUT]
            except Exception as error:  # of ONNX Runtime's, which have no common base of their own
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise InputError(f"QONNX's executor cannot run this network: {reason}") from error
        return torch.from_numpy(outputs)

    at_once = max(MOST_COMPARISONS // _comparisons(ModelWrapper(model)), 1)
    return lambda inputs: torch.cat([run_at_once(part) for part in inputs.split(at_once)])


def _comparisons(model: "ModelWrapper") -> int:
    """Of one sample, in the node that has the most."""
    nodes = model.get_nodes_by_op_type("MultiThreshold")
    sizes = (
        prod(model.get_tensor_shape(x)) * model.get_tensor_shape(limits)[1] for x, limits in (n.input for n in nodes)
    )
    return max(sizes, default=1)
