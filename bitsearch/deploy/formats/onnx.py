"""ONNX: a quantized network as a graph of standard operators, its quantizers QuantizeLinear and DequantizeLinear.

Weights are integer levels behind a DequantizeLinear, as 4-bit integers where they fit and 8-bit ones otherwise. Spikes
are clipped to their bits' largest level and pass an 8-bit QuantizeLinear and DequantizeLinear with their own step, so
that any width of 1 to 8 bits is exact; a signed spike of one bit, which has no zero, is a comparison. The T steps of
the neuron are unrolled, and each convolution runs once on their mean (temporal squeezing).
"""

import copy
import functools
import logging
import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from spikingjelly.activation_based import base
from torch import Tensor, nn

from bitsearch.data import batches
from bitsearch.data.splits import Samples
from bitsearch.deploy.formats.format import ExportRequest, ExportResult
from bitsearch.deploy.lower.time_axis import sample_axis
from bitsearch.deploy.lower.trained_layers import trained_layers
from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.frameworks.layers import PASSED_ON
from bitsearch.layers import quantized_layers
from bitsearch.network_inputs import Inputs, single_input
from bitsearch.plan import BitPlan, NeuronSettings
from bitsearch.quant.firing import largest_level, residual, spike_levels
from bitsearch.quant.membrane_width import fixed_point_steps
from bitsearch.quant.uniform import to_levels
from bitsearch.train.predict import LOGITS, predict
from bitsearch.version import __version__

if TYPE_CHECKING:
    import onnx

OPSET = 21
"""The first with 4-bit integers."""
INPUT, OUTPUT = "inputs", "logits"
LARGEST_INT4 = 7


@dataclass(frozen=True)
class Agreement:
    """What :func:`check_onnx` found."""

    samples: int
    agreeing: int
    """Samples for which file and network predict the same class."""
    difference: float
    """The largest between two logits, as a share of the largest logit."""


def export(request: ExportRequest) -> ExportResult:
    """Write the file and run it beside its network on the test split; InputError as the two functions below."""
    export_onnx(request.network, request.task.examples, request.output, request.plan)
    agreement = check_onnx(
        request.output, request.network, request.task.splits.last_read, request.task.space.training.at_once
    )
    line = (
        f"{request.output}: {agreement.agreeing} of {agreement.samples} test samples are predicted as by the network; "
        f"logits differ by at most {agreement.difference:.1e} of the largest"
    )
    return ExportResult((line,), equal=agreement.agreeing == agreement.samples)


@torch.no_grad()
def export_onnx(network: nn.Module, example_input: Inputs, path: str | os.PathLike[str], plan: BitPlan) -> None:
    """Write a trained quantized network to ``path`` as ONNX; it takes any batch size and returns ``[N, classes]``.

    Args:
        network: from :func:`bitsearch.apply`, with weights loaded.
        example_input: a batch ``[N, ...]``, or ``[T, N, ...]`` with a time axis, N > 1, to trace it with.
        path: file to write, whole or not at all.
        plan: kept among the file's ``metadata_props``, with every layer's bits.

    Raises:
        InputError: a layer is not trained, the network cannot be traced, or the file not written.
    """
    import onnx

    example_input = single_input(example_input, "an exported ONNX model")
    trained_layers(network)
    for name, module in network.named_modules():
        if isinstance(module, base.MemoryModule) and not isinstance(module, PASSED_ON):
            raise InputError(
                f"layer {name!r} cannot be exported to ONNX: it is {type(module).__name__}, whose membrane the "
                "exporter fixes to one batch size; return its currents, or deploy as packed, which has such neurons"
            )
    exported, example_input = _Predicting(copy.deepcopy(network).cpu()).eval(), example_input.cpu()
    samples = sample_axis(exported, example_input)
    for layer in quantized_layers(exported).values():
        _make_plain(layer)
    model = _traced(exported, example_input, samples)
    _without_origin(model)
    _pack_small_weights(model)
    properties = {"bitsearch": __version__, "bitsearch.plan": plan.model_dump_json(exclude_none=True)}
    for name, bits in plan.layers.items():
        properties[f"bitsearch.layers.{name}"] = bits.model_dump_json(exclude_none=True)
    onnx.helper.set_model_props(model, properties)
    model.producer_name, model.producer_version = "bitsearch", __version__
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # of the checker, of shape inference, or of a message too large
        raise InputError(f"the network cannot be exported to ONNX: its checker says {_first_line(error)}") from error
    write_whole(Path(path), model.SerializeToString())


@torch.no_grad()
def check_onnx(path: str | os.PathLike[str], network: nn.Module, samples: Samples, batch_size: int = 64) -> Agreement:
    """Run an ONNX file beside its network.

    Raises:
        InputError: ONNX Runtime cannot run the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # A sum's order, and with it the last bit of a logit, is not to depend on the machine's cores.
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise InputError(f"ONNX Runtime cannot run {path}, which was written: {_first_line(error)}") from error
    count, agreeing, difference, largest = 0, 0, 0.0, 0.0
    with eval_mode(network):
        for inputs, labels in batches(samples, batch_size):
            expected, x = predict(network, inputs), single_input(inputs, "an exported ONNX model")
            try:
                logits = torch.from_numpy(session.run([OUTPUT], {INPUT: x.numpy()})[0])
            except Exception as error:
                raise InputError(f"ONNX Runtime cannot run {path} on a batch: {_first_line(error)}") from error
            count += len(labels)
            agreeing += int((logits.argmax(-1) == expected.argmax(-1)).sum())
            difference = max(difference, float((logits - expected).abs().max()))
            largest = max(largest, float(expected.abs().max()))
    return Agreement(count, agreeing, difference / largest if largest else difference)


class _Predicting(nn.Module):
    """Logits ``[N, classes]``, averaged over the frames where there are some, as :func:`predict` does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        return LOGITS.read(self.network(inputs), "the network")


class _PlainOperands:
    """Mixin in front of a quantized layer: its operands as nodes of ONNX; it is traced, and never run by torch."""

    onnx_levels: Tensor
    onnx_scale: Tensor
    onnx_steps: Tensor
    onnx_largest: Tensor
    """What spikes are clipped to, by time step."""
    onnx_zero: Tensor
    onnx_bits: tuple[int, ...]
    onnx_spike_bits: Tensor
    onnx_largest_codes: Tensor
    """Of every time step."""
    neuron: NeuronSettings | None

    def quantized_weight(self) -> Tensor:
        per_channel = {"axis": 0} if self.onnx_scale.dim() else {}
        weight: Tensor = _node(
            "DequantizeLinear", (self.onnx_levels, self.onnx_scale), self.onnx_levels, torch.float32, per_channel
        )
        layer: Any = self
        in_layout: Tensor = layer.in_layout(weight)
        return in_layout

    def fire(self, x: Tensor) -> Tensor:
        layer: Any = self
        currents, framed = layer._currents(x), layer.frames is not None
        if layer.membrane_width is not None:
            recurrence = fixed_point_steps(
                currents,
                self.onnx_steps,
                self.onnx_spike_bits,
                self.onnx_largest_codes,
                time_steps=len(self.onnx_bits),
                decay=layer.decay,
                signed=layer.signed_input,
                width=layer.membrane_width,
                framed=framed,
                neuron=layer.neuron,
            )
            return self._joined([fired for _, fired in recurrence], framed=framed)
        spikes: list[Tensor] = []
        membrane = currents[0] if framed else currents
        for t, bits in enumerate(self.onnx_bits):
            spikes.append(self._spikes(membrane, t, bits, signed=layer.signed_input))
            if t + 1 < len(self.onnx_bits):
                remaining = residual(membrane, spikes[t], layer.neuron, layer.decay)
                membrane = layer.decay * remaining + (currents[t + 1] if framed else currents)
        return self._joined(spikes, framed=framed)

    def _joined(self, spikes: list[Tensor], *, framed: bool) -> Tensor:
        return torch.stack(spikes) if framed else functools.reduce(torch.add, spikes) / len(spikes)

    def _spikes(self, x: Tensor, t: int, bits: int, *, signed: bool) -> Tensor:
        step, neuron = self.onnx_steps[t], self.neuron
        if signed and bits == 1:
            return torch.where(x < 0, -step, step)
        if neuron is not None and neuron.threshold == "full":
            # QuantizeLinear rounds to the nearest level.
            levels = spike_levels(
                x, step, self.onnx_spike_bits[t], signed=signed, largest=self.onnx_largest_codes[t], neuron=neuron
            )
            return levels.codes * step
        largest = self.onnx_largest[t]
        least = -largest if signed else torch.zeros_like(largest)
        clipped = _node("Clip", (x, least, largest), x, x.dtype, {})
        # Unsigned, zero in the middle: ONNX Runtime 1.32 mixes up types where it moves an INT8 pair behind a reshape.
        zero = self.onnx_zero + 128 if signed else self.onnx_zero
        codes = _node("QuantizeLinear", (clipped, step, zero), x, zero.dtype, {})
        result: Tensor = _node("DequantizeLinear", (codes, step, zero), x, torch.float32, {})
        return result

    def operands_recomputed(self, *operands: Tensor) -> AbstractContextManager[object]:
        return nullcontext()


def _node(
    kind: str, inputs: tuple[Tensor, ...], like: Tensor, dtype: torch.dtype, attributes: Mapping[str, int]
) -> Any:
    return torch.onnx.ops.symbolic(kind, inputs, dict(attributes), dtype=dtype, shape=like.shape, version=OPSET)


def _make_plain(layer: Any) -> None:
    # A time step in which nothing has come in has no size yet; in a graph none can be looked for.
    layer.spike_step_bits.copy_(layer.spike_bits)
    layer.refresh_cache()
    levels = to_levels(layer.output_first(layer.weight), layer.weight_step, layer.weight_bits, signed=True)
    layer.register_buffer("onnx_levels", levels.codes.to(torch.int8))
    layer.register_buffer("onnx_scale", layer.weight_step.flatten() if layer.weight_step.dim() else layer.weight_step)
    layer.register_buffer("onnx_steps", layer.spike_step.clone())
    largest = largest_level(layer.spike_step, layer.spike_bits, signed=layer.signed_input, neuron=layer.neuron)
    layer.register_buffer("onnx_largest_codes", largest)
    layer.register_buffer("onnx_largest", (largest * layer.spike_step).detach())
    layer.register_buffer("onnx_zero", torch.zeros((), dtype=torch.uint8))
    layer.onnx_bits = layer.layer_plan.spike_bits
    layer.register_buffer("onnx_spike_bits", layer.spike_bits.clone())
    layer.__class__ = type(f"Plain{type(layer).__name__}", (_PlainOperands, type(layer)), {})


def _traced(network: nn.Module, example_input: Tensor, samples: int) -> "onnx.ModelProto":
    from onnxscript import optimizer

    shapes = {INPUT: {samples: torch.export.Dim("batch")}}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch's exporter copies its own trees, and torch warns itself of that.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            program = torch.onnx.export(
                network,
                (example_input,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                optimize=False,
                verbose=False,
            )
        assert program is not None
        # Folded, but not rewritten: where a tensor has several readers, rewriting merges the limits of their clips.
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
        return program.model_proto
    except Exception as error:  # whatever a user's forward pass raises when it is traced
        raise InputError(f"the network cannot be exported to ONNX: {_first_line(error)}") from error
    finally:
        logger.setLevel(level)


def _without_origin(model: "onnx.ModelProto") -> None:
    """Drop the exporter's notes, which name files of this machine."""
    graph = model.graph
    del graph.value_info[:]
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""


def _pack_small_weights(model: "onnx.ModelProto") -> None:
    """Hold weight levels that fit as 4-bit integers, two a byte."""
    import onnx

    levels = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for tensor in model.graph.initializer:
        if tensor.name not in levels or tensor.data_type != onnx.TensorProto.INT8:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if abs(values.astype(int)).max(initial=0) <= LARGEST_INT4:
            small = onnx.helper.make_tensor(tensor.name, onnx.TensorProto.INT4, values.shape, values.flatten().tolist())
            tensor.CopyFrom(small)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
