import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import write_imagenet
from PIL import Image
from tolerances import NORMALIZED

from bitsearch.data import batches, load_data
from bitsearch.errors import InputError

PARTS = ("train", "validation", "test")
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder that tests read and leave as it is."""
    return write_imagenet(tmp_path_factory.mktemp("imagenet"))


def load(root, split_seed=0, **options):
    options = {"root": str(root), "size": 28, "workers": 0, "validation_share": 0.2} | options
    return load_data("imagenet", options, split_seed=split_seed)


def refusal(root, **options):
    with pytest.raises(InputError) as caught:
        load(root, **options)
    message = str(caught.value)
    assert message.startswith("imagenet: ")
    assert "\n" not in message
    return message


def files(part):
    return {Path(file.decode()) for file in part.files}


def shuffled(part, seed):
    found = list(batches(part, 8, torch.Generator().manual_seed(seed)))
    return torch.cat([inputs for inputs, _ in found]), torch.cat([labels for _, labels in found])


def test_every_image_is_in_one_split_with_its_folders_label(root):
    splits = load(root)
    train, validation, test = (files(splits.split(part)) for part in PARTS)
    assert not train & validation
    assert train | validation == set(root.glob("train/*/*"))
    assert test == set(root.glob("val/*/*"))
    classes = sorted(folder.name for folder in (root / "train").iterdir())
    for part, each in zip(PARTS, (8, 2, 3), strict=True):
        samples = splits.split(part)
        assert samples.labels.bincount().tolist() == [each] * 3
        for index in range(len(samples)):
            assert classes[samples.labels[index]] == Path(samples.files[index].decode()).parent.name
    assert (splits.input_shape, splits.classes) == ((3, 28, 28), 3)


def test_the_seed_fixes_the_split_and_a_limit_keeps_so_many_a_class(root):
    found, again, other = (load(root, seed) for seed in (3, 3, 4))
    for part in PARTS:
        assert found.split(part).files.tolist() == again.split(part).files.tolist()
    assert files(found.validation) != files(other.validation)
    limited = load(root, limit=2)
    assert [len(limited.split(part)) for part in PARTS] == [3, 3, 6]


def test_images_are_scaled_and_their_middle_is_taken(root):
    part = load(root).test
    for index in range(len(part)):
        inputs, label = part[index]
        assert (inputs.shape, inputs.dtype, label.dtype) == ((3, 28, 28), torch.float32, torch.int64)
        image = Image.open(part.files[index].decode()).convert("RGB")
        scale = 32 / min(image.size)
        width, height = (max(32, int(side * scale)) for side in image.size)
        left, top = round((width - 28) / 2), round((height - 28) / 2)
        small = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + 28, top + 28))
        expected = (torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255 - MEAN) / DEVIATION
        torch.testing.assert_close(inputs, expected, **NORMALIZED)


def test_training_batches_are_random_parts_that_the_generator_decides(root):
    splits = load(root)
    first, again, other = (shuffled(splits.train, seed) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0].sort(0).values, other[0].sort(0).values)
    in_order = torch.cat([inputs for inputs, _ in batches(splits.train, 8)])
    assert torch.equal(in_order, torch.stack([splits.train[index][0] for index in range(len(splits.train))]))
    assert not torch.equal(first[0].sort(0).values, in_order.sort(0).values)
    # The order and the seeds are all that is drawn from the generator; evaluation draws nothing else.
    plain = load(root, augment=False)
    assert torch.equal(shuffled(plain.train, 1)[1], first[1])
    for part in ("validation", "test"):
        mine, other = (sorted(map(bytes, shuffled(one.split(part), 5)[0].numpy())) for one in (splits, plain))
        assert mine == other


def test_two_passes_of_one_generator_differ_and_the_global_one_is_left_alone(root):
    part = load(root).train
    state = torch.random.get_rng_state()
    part.augmented(0, 7)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(part.augmented(0, 7)[0], part.augmented(0, 7)[0])
    assert not torch.equal(part.augmented(0, 7)[0], part.augmented(0, 8)[0])
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat([inputs for inputs, _ in batches(part, 8, generator)]) for _ in range(2))
    assert not torch.equal(first.sort(0).values, second.sort(0).values)


def test_half_the_images_are_mirrored_and_their_parts_vary(tmp_path):
    # Brightness that rises to the right tells which part of the width was taken, and whether it was mirrored.
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (128, 256, 3))
            for index in range(2):
                Image.fromarray(ramp).save(tmp_path / part / name / f"{index}.png")
    part = load(tmp_path, limit=2, validation_share=0.5).train
    ramps = torch.stack([part.augmented(0, seed)[0][0].mean(0) for seed in range(625)])
    mirrored = ramps[:, 0] > ramps[:, -1]
    # Five standard deviations of 625 draws' share.
    assert abs(mirrored.double().mean() - 0.5) < 5 * 0.5 / 25
    widths = (ramps[:, -1] - ramps[:, 0]).abs() * DEVIATION[0].item() * 255
    # From 8 % of the image at 3:4, 44 pixels wide, to all of its height at 4:3, 171 pixels wide. A twentieth of the
    # draws are below 60 and as many above 140, which 625 of them miss once in 10^13 times.
    assert 40 * 27 / 28 < widths.min() < 60
    assert 140 < widths.max() < 171


def test_the_number_of_processes_changes_nothing(root):
    with warnings.catch_warnings():
        # More processes than cores is what torch warns of; here they are few on any machine.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        alone, two = (shuffled(load(root, workers=workers).train, 3) for workers in (0, 2))
    assert torch.equal(alone[0], two[0])
    assert torch.equal(alone[1], two[1])
    assert 1 <= load(root, workers=None).train.workers <= 8


# What a user may get wrong.


@pytest.mark.parametrize("missing", ["train", "val"])
def test_nothing_there_says_what_to_download(tmp_path, missing):
    (tmp_path / ("val" if missing == "train" else "train")).mkdir()
    message = refusal(tmp_path)
    assert f"no '{tmp_path / missing}'; download and unpack ILSVRC2012_img_train.tar and ILSVRC2012_img_val" in message
    assert f"from https://image-net.org/challenges/LSVRC/2012/2012-downloads.php, so that '{tmp_path}' holds" in message
    assert "train/CLASS/*.JPEG, val/CLASS/*.JPEG" in message
    assert "no root given" in refusal("")


def test_validation_images_without_class_folders(tmp_path):
    root = write_imagenet(tmp_path)
    for file in list(root.glob("val/*/*")):
        file.rename(root / "val" / file.name)
    for folder in list(root.glob("val/n*/")):
        folder.rmdir()
    assert f"no folders in '{root / 'val'}'; put the images in one folder a class" in refusal(root)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 0}, "size is 0; give a whole number of pixels"),
        ({"workers": -1}, "workers is -1; give a whole number of processes"),
        ({"limit": 1}, "limit is 1; give a whole number of samples a class"),
        ({"augment": 3}, "augment is 3; give true or false"),
        ({"validation_share": 0.0}, "validation_share is 0.0; give a share"),
    ],
)
def test_wrong_options_are_refused(root, options, expected):
    assert expected in refusal(root, **options)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_when_it_is_read(tmp_path, workers):
    root = write_imagenet(tmp_path)
    splits = load(root, workers=workers)
    broken = Path(splits.validation.files[0].decode())
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(InputError) as caught:
        list(batches(splits.validation, 2))
    assert str(caught.value).startswith(f"imagenet: cannot read the image '{broken}' (")
    assert "\n" not in str(caught.value)
