"""Every export format by name; adding one is one file here, and one entry in this table."""

from bitsearch.deploy.formats.format import ConsumerRequest, ExportRequest, ExportResult, Format
from bitsearch.deploy.formats.nir.dialects import DIALECTS, PLAIN

FORMATS: dict[str, Format] = {
    "packed": Format(
        ".packed.safetensors", "integers at exactly their bit widths", "bitsearch.deploy.formats.packed:export"
    ),
    "nir": Format(
        ".nir",
        "spiking event networks",
        "bitsearch.deploy.formats.nir.export:export",
        modules=("nir",),
        extra="nir",
        options=("share_steps", "dialect"),
        consumers={name: "bitsearch.deploy.formats.nir.check:check" for name in DIALECTS if name != PLAIN},
    ),
    "onnx": Format(
        ".onnx",
        "a graph of standard operators",
        "bitsearch.deploy.formats.onnx:export",
        modules=("onnx", "onnxscript", "onnxruntime"),
        extra="onnx",
    ),
    "c": Format(
        "-c",
        "C99 without heap or float, for microcontrollers",
        "bitsearch.deploy.formats.c.export:export",
        consumers={"c": "bitsearch.deploy.formats.c.check:check"},
    ),
    "hub-folder": Format(".hub", "model card and all files", "bitsearch.deploy.formats.hub_folder:export"),
}

DEFAULT = "packed"

__all__ = ["DEFAULT", "FORMATS", "ConsumerRequest", "ExportRequest", "ExportResult", "Format"]
