"""``bitsearch doctor``."""

import platform
import sys
from importlib import metadata

import typer
from rich.table import Table
from rich.text import Text

from bitsearch.cli.terminal.console import Console
from bitsearch.version import __version__

REQUIRED_PACKAGES = (
    "torch",
    "torchvision",
    "torchaudio",
    "spikingjelly",
    "lightning-fabric",
    "optuna",
    "pandas",
    "plotly",
    "typer",
    "pydantic",
    "safetensors",
)
EXTRAS = {
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "qonnx": ("onnx", "qonnx"),
    "hls4ml": ("onnx", "qonnx", "hls4ml"),
    "nir": ("nir",),
    "akida": ("akida",),
    "dashboard": ("optuna-dashboard",),
    "postgres": ("psycopg",),
    "s3": ("boto3",),
    "grpc": ("grpcio",),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow-skinny", "pytorch-lightning"),
    "wandb": ("wandb", "pytorch-lightning"),
}
"""Packages of every extra, by the extra's name."""


def doctor() -> None:
    """Show versions and devices, and what is missing and how to install it; exit code 1 if anything is."""
    console = Console()
    table = Table(title=f"bitsearch {__version__}", title_justify="left")
    table.add_column("what")
    table.add_column("found")
    table.add_row("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    missing = []
    for package in REQUIRED_PACKAGES:
        try:
            table.add_row(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            missing.append(package)
            table.add_row(package, Text("missing", style="red"))
    for extra, packages in EXTRAS.items():
        table.add_row(f"extra {extra}", ", ".join(map(_version, packages)))
    faults = [f"{package} is missing: pip install {package}" for package in missing]
    if "torch" not in missing:
        from bitsearch.train.device import device_report

        for name, description in device_report():
            table.add_row(name, description)
    if not missing:
        try:
            import spikingjelly.activation_based.neuron  # noqa: F401
        except Exception as error:  # any failure of a foreign import is the finding
            faults.append(
                f"spikingjelly cannot be imported ({error}): torch, torchvision and torchaudio must match; "
                "pip install --force-reinstall 'torch>=2.6,<2.12' spikingjelly"
            )
    console.print(table)
    for fault in faults:
        console.print(fault, style="red", highlight=False)
    if faults:
        raise typer.Exit(1)
    console.print(f"Everything is there. Python: {sys.executable}", highlight=False, soft_wrap=True)


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} not installed"
