"""Hostile packed files: how many are refused in one line, and how many run within their bounds.

    python -m benchmarks.fuzz --out reports/benchmarks

Runs tests/deploy/integer/test_fuzz.py once a seed with many inputs: truncated, bit-flipped and foreign files, and
well-formed ones with a fitting checksum whose header or payload lies. A crash, an error that is no single line, an
output beyond its bounds or half a gigabyte of memory ends it with exit 1, and no table is written.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.provenance import made_by
from bitsearch.deploy.integer.packed_file import FORMAT_VERSION
from bitsearch.files import write_whole

ROOT = Path(__file__).parents[1]
KINDS = ("static input", "frames, spiking read-out")
"""Of networks whose file is damaged, in the order of the test."""


def fuzz(inputs: int, seed: int) -> list[dict[str, int]]:
    """What the test found, one for each kind of network; SystemExit where it fails."""
    environment = {**os.environ, "BITSEARCH_FUZZ": str(inputs), "BITSEARCH_FUZZ_SEED": str(seed)}
    command = [sys.executable, "-m", "pytest", "-n", "0", "--no-cov", "-q", "-s", "tests/deploy/integer/test_fuzz.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"seed {seed}: {done.stdout}")
    return [json.loads(found) for found in re.findall(r"^hostile files: (.*)$", done.stdout, re.MULTILINE)]


def main() -> None:
    """Try every seed and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=12_500, help="for each seed and kind of network")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    arguments = parser.parse_args()
    lines = [
        "| seed | network with | inputs | refused | run within bounds | too large to run | refusals | MiB more |",
        "|---|---|---|---|---|---|---|---|",
    ]
    total, refused, begun = 0, 0, time.monotonic()
    for seed in range(arguments.seeds):
        for kind, found in zip(KINDS, fuzz(arguments.inputs, seed), strict=True):
            total, refused = total + found["files"], refused + found["refused"]
            cells = [found[key] for key in ("files", "refused", "run", "too large to run here", "refusals", "MiB more")]
            lines.append(f"| {seed} | {kind} | {' | '.join(map(str, cells))} |")
            print(lines[-1], flush=True)
    text = (
        f"# Hostile packed files\n\n{total} inputs on format {FORMAT_VERSION}; none crashed, {refused} were refused in "
        "one line. Of the others, all that were small enough were run, and kept within the bounds of their integers."
        "\n\nRefusals are the different messages; MiB more, what the process grew by over all inputs of a row. Took "
        f"{(time.monotonic() - begun) / 60:.0f} minutes.\n\n" + "\n".join(lines) + f"\n\nMade by {made_by()}.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "fuzz.md", text)
    print(text)


if __name__ == "__main__":
    main()
