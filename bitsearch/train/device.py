"""Devices: finding one by name, and saying what there is."""

import re

import torch

from bitsearch.errors import InputError
from bitsearch.launch import launched_world_size, local_rank


def find_device(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one; of several processes on a machine, each takes its own.

    Raises:
        InputError: a name that torch does not know, or a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if launched_world_size() == 1:
            return torch.device(name)
    if launched_world_size() > 1 and name != "cpu":
        if name != "cuda":
            raise InputError(f"device is {name!r}; several processes take cuda, each a GPU of its own, or cpu")
        name = f"cuda:{local_rank()}"
    if re.fullmatch(r"cpu|cuda(:\d{1,4})?|mps", name) is None:
        advice = "; a GPU is cuda, or mps on a Mac" if name.lower() in ("gpu", "nvidia", "metal") else ""
        raise InputError(f"device is {name!r}; allowed: auto, cpu, cuda, cuda:N, mps{advice}")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        present = ", ".join(row[0] for row in device_report() if row[0] != "GPU")
        raise InputError(f"device {name!r} is not there, or torch was built without it; here: {present}") from error
    return device


def device_report() -> list[tuple[str, str]]:
    """(device, what it is) of everything torch can compute on here."""
    threads = torch.get_num_threads()
    rows = [("cpu", f"{threads} thread{'s' if threads != 1 else ''}")]
    rows += [(f"cuda:{index}", torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        rows.append(("mps", "Apple GPU"))
    if len(rows) == 1:
        rows.append(("GPU", "none that torch can use; the CPU is enough for the digits space"))
    return rows
