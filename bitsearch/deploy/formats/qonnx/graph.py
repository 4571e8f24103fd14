"""A graph of ONNX and QONNX nodes while it is built, and the model that it becomes."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bitsearch.deploy.integer.operations import AveragePool, MaxPool
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.version import __version__

if TYPE_CHECKING:
    import onnx

OPSET = 13
"""Of ONNX's own operators, which readers of QONNX know."""
DOMAIN = "qonnx.custom_op.general"
INPUT, OUTPUT = "global_in", "global_out"
"""As QONNX's own clean-up names them."""
_QONNX = ("Quant", "BipolarQuant", "MultiThreshold")


class GraphBuilder:
    """Nodes in the order in which they run, and constants; batches have one sample until someone changes that."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._kinds: dict[str, str] = {}
        self.scope = ""
        """Of the names of nodes that are added."""

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """The name of a node's result; attributes that are None are left out."""
        (name,) = self.nodes(kind, *inputs, outputs=(output,), **attributes)
        return name

    def nodes(self, kind: str, *inputs: str, outputs: Sequence[str | None], **attributes: Any) -> list[str]:
        """The names of a node's results, which are ``outputs`` where these are names."""
        import onnx

        # Readers make identifiers of names.
        word = re.sub(r"\W", "_", self.scope, flags=re.ASCII)
        title = f"n{len(self._nodes)}_{word}_{kind}"
        names = [name or f"{title}_out{number}" for number, name in enumerate(outputs)]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        domain = DOMAIN if kind in _QONNX else ""
        self._nodes.append(onnx.helper.make_node(kind, inputs, names, title, domain=domain, **attributes))
        return names

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32, kind: str | None = None) -> str:
        """The name of a constant, of which each has one reader; ``kind`` is a type of QONNX's that its numbers have."""
        import onnx

        name = f"c{len(self._constants)}"
        if kind is not None:
            self._kinds[name] = kind
        self._constants.append(onnx.numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def quant(self, x: str, scale: float, bits: int, *, signed: bool, narrow: bool, rounding: str) -> str:
        """``x`` as whole multiples of ``scale``, in ``bits`` bits."""
        operands = (x, *(self.constant(value) for value in (scale, 0, bits)))
        return self.node("Quant", *operands, signed=int(signed), narrow=int(narrow), rounding_mode=rounding)

    def times(self, x: str, factor: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """``x`` times a constant; ``x`` itself where that is one."""
        return x if np.all(np.asarray(factor) == 1) else self.node("Mul", x, self.constant(factor, dtype))

    def plus(self, x: str, term: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """``x`` and a constant; ``x`` itself where that is zero."""
        return x if not np.any(term) else self.node("Add", x, self.constant(term, dtype))

    def reshaped(self, x: str, shape: Sequence[int]) -> str:
        """``x`` in another shape, in row-major order."""
        if len(shape) == 1:
            return self.node("Flatten", x, axis=1)
        return self.node("Reshape", x, self.constant([1, *shape], np.int64))

    def total(self, terms: Sequence[str]) -> str:
        """The sum of tensors."""
        result = terms[0]
        for term in terms[1:]:
            result = self.node("Add", result, term)
        return result

    def end(self, name: str) -> None:
        """Make a node's result the graph's output."""
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [OUTPUT if one == name else one for one in names]

    def model(self, packed: PackedNetwork, inputs: Sequence[int], output_type: int) -> "onnx.ModelProto":
        """The whole graph, its shapes and the types of its integers inferred, with the plan among its properties.

        Args:
            packed: the network.
            inputs: shape of the input, without the batch.
            output_type: of the output's elements, as ONNX counts types.
        """
        import onnx
        from qonnx.core.datatype import DataType
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.transformation.infer_datatypes import InferDataTypes
        from qonnx.transformation.infer_shapes import InferShapes

        information = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            self._nodes,
            "bitsearch",
            [information(INPUT, onnx.TensorProto.FLOAT, [1, *inputs])],
            [information(OUTPUT, output_type, [1, *packed.analysis.values[-1].shape])],
            self._constants,
        )
        opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, 1)]
        model: onnx.ModelProto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        model.producer_name, model.producer_version = "bitsearch", __version__
        wrapped = ModelWrapper(model)
        for name, kind in self._kinds.items():
            wrapped.set_tensor_datatype(name, DataType[kind])
        model = wrapped.transform(InferShapes()).transform(InferDataTypes()).model
        properties = {"bitsearch": __version__}
        if packed.plan is not None:
            properties["bitsearch.plan"] = packed.plan.model_dump_json(exclude_none=True)
            for name, bits in packed.plan.layers.items():
                properties[f"bitsearch.layers.{name}"] = bits.model_dump_json(exclude_none=True)
        onnx.helper.set_model_props(model, properties)
        return model


def windows(pool: MaxPool | AveragePool) -> dict[str, Any]:
    """Of a pooling, as ONNX's operators have them."""
    return {"kernel_shape": list(pool.kernel), "strides": list(pool.stride), "pads": list(pool.padding) * 2}
