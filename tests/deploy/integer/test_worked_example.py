"""The example in docs/packed-format.md, computed by the library and by the reader that shares no code with it."""

import json
import re
from pathlib import Path

import pytest
import torch
from packed_reader import run as run_by_hand
from safetensors.torch import save_file

from bitsearch import read
from bitsearch.deploy.integer.packed_file import checksum

PAGE = Path(__file__).parents[3] / "docs" / "packed-format.md"


@pytest.fixture
def example():
    section = PAGE.read_text(encoding="utf-8").split("## An example")[1]
    return json.loads(re.search(r"```json\n(.*?)```", section, re.DOTALL)[1])


@pytest.fixture
def file(example, tmp_path):
    tensors = {
        name: torch.tensor(numbers, dtype=torch.uint8 if name.endswith("weight") else torch.int32)
        for name, numbers in example["tensors"].items()
    }
    widths = {"fc": {"accumulator": 32, "membrane": 32, "output": 32}}
    parts = {"program": json.dumps(example["program"]), "widths": json.dumps(widths), "plan": "", "source": "{}"}
    header = {"format": "7", **parts, "sha256": checksum(parts, tensors)}
    save_file(tensors, tmp_path / "packed", {f"bitsearch.{key}": text for key, text in header.items()})
    return tmp_path / "packed"


def test_the_library_gets_the_numbers_of_the_example(example, file):
    integers = {}

    def observe(operation, quantity, t, tensor):
        integers[quantity, t] = tensor.flatten().tolist()

    output = read(file).replay()(torch.tensor([example["input"]]), observe)
    assert [integers["spikes", t] for t in range(2)] == example["spikes"]
    assert integers["membrane", 0] == example["value"]
    assert integers["accumulator", 0] == example["accumulator"]
    assert output.tolist() == [example["output"]]


def test_a_reader_written_from_the_page_gets_them_too(example, file):
    assert run_by_hand(file, example["input"]) == (example["output"], 4)
