"""Every search space as it is shipped, on tiny files in its data's true format: trained, costed, packed and exported.

Large networks are narrower here and their images smaller, and some become ONNX only with BITSEARCH_SPACES=whole, which
leaves networks and sizes as they are and takes the better part of an hour.
"""

import os
import re
from dataclasses import replace

import pytest
import torch
from event_files import write_cifar10_dvs, write_dvs128_gesture, write_n_caltech101, write_n_mnist, write_recordings
from image_files import write_cifar10, write_cifar100, write_imagenet, write_mnist
from PIL import Image
from sound_files import write_fsdd
from torch.nn import functional as F
from torch.utils.data import Subset

from bitsearch import read, verify
from bitsearch.cost import AllowedBits, CostModel, Target, check_first_layer, check_granularity
from bitsearch.cost.geometry import NetworkGeometry
from bitsearch.cost.profile import profile
from bitsearch.data import batches
from bitsearch.deploy.formats import FORMATS, ExportRequest
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import Baseline, BitPlan, Provenance, UniformBits
from bitsearch.space import SearchSpace, shipped_spaces
from bitsearch.train import task as tasks

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore:kept at 32 bits")]
WHOLE = os.environ.get("BITSEARCH_SPACES") == "whole"
SAMPLES = 2


def write_shd(root):
    write_recordings(root / "shd_train.h5", 2, 0)
    write_recordings(root / "shd_test.h5", 1, 1)


def write_images(root):
    for part, count in (("train", 10), ("test", 2)):
        for label in ("ant", "bee"):
            (root / part / label).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (40, 36), (7 * index, 20, 30)).save(root / part / label / f"{index}.png")


WRITERS = {
    "mnist": write_mnist,
    "fashion_mnist": lambda root: write_mnist(root, "FashionMNIST"),
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "image_folder": write_images,
    "imagenet": write_imagenet,
    "n_mnist": lambda root: write_n_mnist(root, train=10),
    "cifar10_dvs": lambda root: write_cifar10_dvs(root, each=10),
    "dvs128_gesture": write_dvs128_gesture,
    "n_caltech101": lambda root: write_n_caltech101(root, each=10),
    "shd": write_shd,
    "fsdd": write_fsdd,
}
NARROWER = {
    "digits_cnn": ("network_options.width=4",),
    "digits_events_cnn": ("network_options.width=4",),
    "small_cnn": ("network_options.width=4",),
    "resnet20": ("network_options.width=4",),
    "resnet18_cifar": ("network_options.width=4",),
    "resnet19_dvs": ("network_options.width=4", "data_options.size=16"),
    "resnet18": ("data_options.size=32",),
    "sew_resnet34": ("data_options.size=32",),
    "shd_mlp": ("network_options.width=8",),
    "spiking_mlp": ("network_options.width=8", "network_options.depth=2"),
    "recurrent_spiking_mlp": ("network_options.width=8",),
    "spikformer_cifar": ("network_options.width=24", "network_options.depth=1"),
    "vggsnn": ("network_options.width=4", "data_options.size=16"),
}
"""By network."""
SPACES = shipped_spaces()
ONNX = list(SPACES) if WHOLE else ["cifar100", "cifar10_dvs_resnet19", "cifar10_spikformer", "shd_mlp"]
"""Residual networks, with frames and without, attention, and layers without images."""
UNPACKED = {
    "spikformer_cifar": r"the network cannot be traced",
    "recurrent_spiking_mlp": r"reads in one round of the forward pass's loop what another one computed",
}
"""Why a network is not packed."""


@pytest.fixture(scope="module", params=SPACES)
def shipped(request, tmp_path_factory):
    """(name, task) of a space on its data."""
    space = SearchSpace.load(request.param)
    settings = [] if WHOLE else list(NARROWER[space.network])
    if space.data in WRITERS:
        root = tmp_path_factory.mktemp(request.param)
        WRITERS[space.data](root)
        settings += [f"data_options.root={root}"] + ["data_options.workers=0"] * (space.data == "imagenet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "EXAMPLES", SAMPLES)
        return request.param, tasks.load_task(space.override(settings), device="cpu")


def refusal(call, *arguments):
    """The line that a call is refused with; None if it is not."""
    try:
        call(*arguments)
    except InputError as refused:
        return str(refused)
    return None


def one_step(network, task):
    """Gradient descent on the first samples: every parameter stays finite, and most of them move."""
    inputs, labels = next(iter(batches(task.splits.train, SAMPLES)))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = torch.optim.Adam(network.train().parameters(), lr=1e-3)
    logits = network(inputs)
    assert logits.shape[-2:] == (len(labels), task.splits.classes)
    loss = F.cross_entropy(logits.mean(0) if logits.dim() == 3 else logits, labels)
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    moved = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2


def test_a_training_step_in_full_precision_and_of_the_baseline(shipped):
    _, task = shipped
    one_step(task.fresh_network(), task)
    one_step(convert(task.untrained, task.rules.nearest(task.model, task.space.baseline, granularity="layer")), task)


def costs_on(target, task):
    """(cost model, baseline's bits) on a target, which is checked as for a run."""
    check_granularity(task.space.allocation.quantizer.granularity, target)
    check_first_layer(task.space.first_layer, target)
    geometry = NetworkGeometry((*task.model.layers, *task.model.unquantized), poolings=task.model.poolings)
    model = CostModel(geometry, target=target)
    rules = AllowedBits.make(model, task.space.choices, task.space.first_layer)
    return model, rules.nearest(model, task.space.baseline, granularity="layer")


@pytest.mark.parametrize("name", Target.names())
def test_every_target_has_its_costs_or_says_why_not(name, shipped):
    _, task = shipped
    target = Target.load(name)
    line = refusal(costs_on, target, task)
    if line is not None and f"but the hardware target {name!r} allows " in line and "change the network" in line:
        # A limit that no bits can mend.
        assert line.startswith(("layer '", "the network has "))
        assert "\n" not in line
        return
    if line is not None:
        # More frames than a chip has time steps.
        assert task.splits.frames > target.max_time_steps
        steps = task.space.first_layer.time_steps
        assert line.startswith(f"first_layer.time_steps is {steps}, but the hardware target '{name}' allows 1")
        assert "\n" not in line
        return
    model, layers = costs_on(target, task)
    table = profile(task.untrained, model, layers).set_index("layer")
    assert set(table.index) == {*layers, *(part.name for part in model.unquantized)}
    quantized = table.loc[list(layers)]
    assert (quantized["macs"] > 0).all()
    allowed = {*target.weight_bits, *(rule.weight_bits for rule in (target.first_layer, target.last_layer) if rule)}
    assert set(quantized["weight_bits"]) <= allowed


def one_bit(name, task, time_steps):
    """(network, plan) with 1-bit spikes, which every format may hold, its steps set."""
    bits = UniformBits(weight_bits=4, spike_bits=1, time_steps=time_steps)
    layers = task.model.uniform(bits, None)
    network = convert(task.untrained, layers).train()
    with torch.no_grad():
        network(task.examples)
    provenance = Provenance(bitsearch="0.1.0", torch=torch.__version__, seed=0, command="by hand")
    baseline = Baseline(**bits.model_dump(), costs={})
    plan = BitPlan(
        space=name,
        network=task.space.network,
        budget=(),
        baseline=baseline,
        layers=layers,
        costs={},
        provenance=provenance,
    )
    return network.eval(), plan


def few(task, count):
    """A task's data with so many samples in the test split."""
    part = Subset(task.splits.test, range(count))
    part.frames = task.splits.frames
    return replace(task.splits, test=part)


@pytest.fixture(scope="module")
def every_frame(shipped):
    """(network, plan) of a step a frame."""
    name, task = shipped
    return one_bit(name, task, task.splits.frames or 1)


def test_it_is_packed_and_published(shipped, every_frame, tmp_path):
    (_, task), (network, plan) = shipped, every_frame
    lines = FORMATS["hub-folder"].export(ExportRequest(network, plan, task, tmp_path / "hub")).lines
    unpacked = UNPACKED.get(task.space.network)
    if unpacked is None:
        packed = read(tmp_path / "hub" / "packed.safetensors")
        assert packed.program.layers.keys() == plan.layers.keys()
        verification = verify(packed, network, task.examples, few(task, SAMPLES).test, SAMPLES)
        assert verification.equal
        assert verification.samples == SAMPLES
    else:
        assert re.search(unpacked, lines[-1])
        assert re.search(
            unpacked, refusal(FORMATS["packed"].export, ExportRequest(network, plan, task, tmp_path / "p"))
        )
    assert (tmp_path / "hub" / "packed.safetensors").exists() == (unpacked is None)
    assert not (tmp_path / "p").exists()


def test_it_becomes_nir_or_the_line_names_its_module(shipped, every_frame, tmp_path):
    (name, task), (network, plan) = shipped, every_frame
    line = refusal(FORMATS["nir"].export, ExportRequest(network, plan, task, tmp_path / "n.nir", share_steps=True))
    if name == "digits_events_nir":
        assert line is None
        return
    # Images are less than zero where they are darker than the mean, log energies where it is quieter.
    is_negative = task.splits.frames is None or task.space.data == "fsdd"
    reason = "its input may be negative" if is_negative else "it is ReLU"
    found = re.match(rf"layer '(.*)' cannot be expressed in NIR: {reason}[^\n]*$", line)
    assert found[1] in dict(task.untrained.named_modules())
    assert not (tmp_path / "n.nir").exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("shipped", ONNX, indirect=True)
def test_onnx_runtime_predicts_as_it_does(shipped, tmp_path):
    name, task = shipped
    network, plan = one_bit(name, task, 1)
    task = replace(task, splits=few(task, SAMPLES))
    result = FORMATS["onnx"].export(ExportRequest(network, plan, task, tmp_path / "network.onnx"))
    assert result.equal
    assert f" {SAMPLES} of {SAMPLES} test samples are predicted as by the network" in result.lines[0]
