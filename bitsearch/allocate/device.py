"""Devices: finding one by name, and saying which there are."""

import torch

from bitsearch.errors import InputError


def find_device(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one; InputError for a name torch does not know or a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used ({reason}); allowed: auto, cpu, cuda, cuda:N, mps") from error
    return device


def device_report() -> list[tuple[str, str]]:
    """(device, what it is) of everything torch can compute on here."""
    found = [("cpu", f"{torch.get_num_threads()} threads")]
    found += [(f"cuda:{index}", torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append(("mps", "Apple GPU"))
    if len(found) == 1:
        found.append(("GPU", "none that torch can use; the CPU is enough for the digits space"))
    return found
