"""What a user's code may give in place of a tensor or a number, or raise; modules that tests write begin with it."""

import numpy
import torch
from torch import nn

TENSOR = torch.rand(6)
VALUES = {
    "nothing": lambda: None,
    "text": lambda: "\x1b[2J\nnan",
    "list": lambda: [1.0] * 6,
    "array": lambda: numpy.ones(6, dtype=">f4"),
    "double": lambda: torch.rand(6, dtype=torch.float64),
    "integers": lambda: torch.arange(6),
    "complex": lambda: torch.rand(6) + 1j,
    "bytes": lambda: torch.zeros(6, dtype=torch.uint8),
    "booleans": lambda: torch.ones(6, dtype=torch.bool),
    "sparse": lambda: TENSOR.to_sparse(),
    "meta": lambda: torch.rand(6, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(TENSOR, 0.1, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([TENSOR]),
    "leaf": lambda: torch.rand(6, requires_grad=True),
    "nan": lambda: TENSOR * float("nan"),
    "infinite": lambda: TENSOR - float("inf"),
    "huge": lambda: TENSOR * 3e38,
    "tiny": lambda: TENSOR * 1e-45,
    "zero": lambda: TENSOR * 0,
    "negative": lambda: -TENSOR,
    "empty": lambda: torch.empty(0),
    "scalar": lambda: torch.tensor(1.0),
    "longer": lambda: torch.rand(7),
    "deeper": lambda: torch.rand(1, 6),
    "dict": lambda: {"x": TENSOR},
    "class": lambda: torch.Tensor,
    "parameter": lambda: nn.Parameter(TENSOR),
    "minus": lambda: -1,
    "many": lambda: 10**30,
    "one": lambda: 1,
    "half": lambda: 0.5,
    "true": lambda: True,
    "label": lambda: torch.tensor(1),
    "label32": lambda: torch.tensor(1, dtype=torch.int32),
    "labels": lambda: torch.tensor([1]),
    "numpy": lambda: numpy.int64(1),
    "raise ValueError": lambda: raised(ValueError("\n".join("lines"))),
    "raise KeyError": lambda: raised(KeyError(TENSOR)),
    "raise StopIteration": lambda: raised(StopIteration(3)),
    "raise SystemExit": lambda: raised(SystemExit(None)),
    "raise GeneratorExit": lambda: raised(GeneratorExit()),
    "raise RecursionError": lambda: VALUES["raise RecursionError"](),
    "raise MemoryError": lambda: raised(MemoryError()),
    "raise AssertionError": lambda: raised(AssertionError()),
    "raise OSError": lambda: raised(OSError(28, "No space left on device", "\x1b[2J")),
    "raise Ending": lambda: raised(Ending("enough")),
    "raise Silent": lambda: raised(SilentError()),
    "raise Unicode": lambda: raised(ValueError("\ud800")),
}


class Ending(BaseException):
    pass


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def raised(error):
    raise error
