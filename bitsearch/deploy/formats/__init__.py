"""Every export format by name; adding one is one file here, and one entry in this table."""

from typing import Any

from bitsearch.deploy.formats.format import ConsumerRequest, ExportRequest, ExportResult, Format
from bitsearch.deploy.formats.nir.dialects import DIALECTS, PLAIN
from bitsearch.errors import InputError, suggestion

FORMATS: dict[str, Format] = {
    "packed": Format(
        ".packed.safetensors",
        "Integers at exactly their bit widths, and the program that runs them, which verify replays.",
        "bitsearch.deploy.formats.packed:export",
    ),
    "nir": Format(
        ".nir",
        "A graph of the Neuromorphic Intermediate Representation, for the libraries that --dialect names.",
        "bitsearch.deploy.formats.nir.export:export",
        modules=("nir",),
        extra="nir",
        options=("share_steps", "dialect"),
        consumers={name: "bitsearch.deploy.formats.nir.check:check" for name in DIALECTS if name != PLAIN},
    ),
    "onnx": Format(
        ".onnx",
        "A graph of standard ONNX operators, which ONNX Runtime runs.",
        "bitsearch.deploy.formats.onnx:export",
        modules=("onnx", "onnxscript", "onnxruntime"),
        extra="onnx",
    ),
    "qonnx": Format(
        ".qonnx.onnx",
        "A QONNX graph with quantizers at the widths of the plan, or with thresholds, which tools for FPGAs read.",
        "bitsearch.deploy.formats.qonnx.export:export",
        modules=("onnx", "qonnx"),
        extra="qonnx",
        options=("share_steps", "thresholds"),
        consumers={
            "qonnx": "bitsearch.deploy.formats.qonnx.check:check",
            "qonnx-thresholds": "bitsearch.deploy.formats.qonnx.check:check",
            "hls4ml": "bitsearch.deploy.formats.qonnx.hls:check",
        },
    ),
    "c": Format(
        "-c",
        "C99 without heap or float, with test vectors, for any C compiler and microcontrollers.",
        "bitsearch.deploy.formats.c.export:export",
        consumers={"c": "bitsearch.deploy.formats.c.check:check"},
    ),
    "akida": Format(
        ".fbz",
        "A model of BrainChip's Akida, first generation, for its software and an AKD1000.",
        "bitsearch.deploy.formats.akida.export:export",
        modules=("akida",),
        extra="akida",
        consumers={"akida": "bitsearch.deploy.formats.akida.check:check"},
        expressible="bitsearch.deploy.formats.akida.chip:chip_network",
    ),
    "hub-folder": Format(
        ".hub",
        "A folder to publish, with a model card, the packed file, plan, weights, search space and report.",
        "bitsearch.deploy.formats.hub_folder:export",
    ),
}

DEFAULT = "packed"

__all__ = [
    "DEFAULT",
    "FORMATS",
    "ConsumerRequest",
    "ExportRequest",
    "ExportResult",
    "Format",
    "formats_with",
    "request_options",
]


def formats_with(option: str) -> str:
    """Names of the formats that have an option."""
    return ", ".join(name for name, entry in FORMATS.items() if option in entry.options)


def request_options(
    kind: str, *, share_steps: bool = False, thresholds: bool = False, dialect: str | None = None
) -> dict[str, Any]:
    """The fields of an :class:`ExportRequest` that are not as by default.

    Raises:
        InputError: no such format, no such dialect, or an option that the format has not.
    """
    if kind not in FORMATS:
        raise InputError(f"--format is {kind!r}; allowed: {', '.join(FORMATS)}{suggestion(kind, FORMATS)}")
    if dialect is not None and dialect not in DIALECTS:
        allowed = ", ".join(DIALECTS)
        raise InputError(f"--dialect is {dialect!r}; allowed: {allowed}{suggestion(dialect, DIALECTS)}")
    switches = {"share_steps": share_steps, "thresholds": thresholds, "dialect": dialect}
    options = {name: value for name, value in switches.items() if value}
    for option in options:
        if option not in FORMATS[kind].options:
            raise InputError(f"--{option.replace('_', '-')} is for --format {formats_with(option)}, not {kind}")
    return options
