"""Is a searched and trained CIFAR-10 network the same on integers? Every spike of every test image.

    python -m benchmarks.cifar10_replay --root FOLDER --out reports/benchmarks

FOLDER holds CIFAR-10 as train/CLASS/*.jpg and test/CLASS/*.jpg. A short search trains a thin ResNet-20 on a fifth of
the training images; its plan is deployed as a packed file, and ``bitsearch verify`` replays that on all 10,000 test
images beside the quantized network: layer by layer, time step by time step. What is shown is what the commands print.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from bitsearch.files import write_whole

SETTINGS = {
    "data_options.limit": 1000,
    "network_options.width": 8,
    "training.full_precision_epochs": 6,
    "training.epochs": 4,
    "search.trials": 1,
    "search.uniform_trials": 1,
}
"""A minute an epoch on one core; accuracy is not what is measured."""


def bitsearch(folder: Path, *arguments: str) -> tuple[str, str]:
    """(the command line, what it printed) of the command, run in ``folder`` on one thread."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-m", "bitsearch", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"bitsearch {shlex.join(arguments)}: exit {done.returncode}\n{done.stdout}")
    # Titles of tables are padded to their width.
    return f"bitsearch {shlex.join(arguments)}", "\n".join(line.rstrip() for line in done.stdout.splitlines())


def main() -> None:
    """Search, deploy, verify; write what was printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    settings = [text for key, value in SETTINGS.items() for text in ("--set", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cifar10").symlink_to(root)
        images = ("--set", "data_options.root=cifar10")
        shown = [
            bitsearch(folder, "run", "--space", "cifar10_folder", *images, *settings, "--budget", "8x", "--out", "run"),
            bitsearch(folder, "deploy", "run/plan.json"),
            bitsearch(folder, "verify", "run/plan.packed.safetensors"),
        ]
    blocks = "\n\n".join(f"```\n$ {command}\n{printed}\n```" for command, printed in shown)
    text = (
        "# A CIFAR-10 network on integers\n\nA short search on a fifth of the training images; the packed file is "
        f"replayed on all test images.\n\n{blocks}\n\nMade by `python -m benchmarks.cifar10_replay --root FOLDER`.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "cifar10_replay.md", text)
    print(text)


if __name__ == "__main__":
    main()
