"""What the C of a packed network computes, compiled with everything that can complain."""

import torch

from bitsearch.deploy.formats.c.compiled import compiled

STRICTEST = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def check_c(packed, x, flags=STRICTEST):
    """The C has the replay's outputs, bit for bit; a warning of the compiler or a fault of the program is an error."""
    expected = packed.replay()(x)
    with compiled(packed, flags) as run:
        outputs = run(x)
    assert torch.equal(outputs, expected)
    return outputs
