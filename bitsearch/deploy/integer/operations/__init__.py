"""The closed set of operations, each one class: its fields, its shape and range, what it is on integers and in float64.

A *current* is an integer in the unit 2^−fraction. What an operation computes is stated in its docstring;
docs/packed-format.md gives the same to those who write a reader.
"""

from bitsearch.deploy.integer.operations.elementwise import Relu, Scale
from bitsearch.deploy.integer.operations.frames import Fire, SumFrames
from bitsearch.deploy.integer.operations.joins import Add, Concatenate
from bitsearch.deploy.integer.operations.layer import RunLayer
from bitsearch.deploy.integer.operations.neuron import RunNeuron
from bitsearch.deploy.integer.operations.operation import Operation
from bitsearch.deploy.integer.operations.pooling import AveragePool, MaxPool
from bitsearch.deploy.integer.operations.shapes import Reshape
from bitsearch.deploy.integer.operations.synapses import RunSynapses

AnyOperation = (
    RunLayer
    | RunNeuron
    | RunSynapses
    | Relu
    | Scale
    | MaxPool
    | AveragePool
    | Add
    | Concatenate
    | Reshape
    | Fire
    | SumFrames
)
"""What a packed file may hold."""

__all__ = [
    "Add",
    "AnyOperation",
    "AveragePool",
    "Concatenate",
    "Fire",
    "MaxPool",
    "Operation",
    "Relu",
    "Reshape",
    "RunLayer",
    "RunNeuron",
    "RunSynapses",
    "Scale",
    "SumFrames",
]
