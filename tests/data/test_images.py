import pytest
import torch
from tolerances import NORMALIZED
from torchvision.transforms.functional import crop, hflip

from bitsearch.data.images import (
    PADDING_PIXELS,
    AugmentedImages,
    Crops,
    channel_statistics,
    crop_and_flip,
    image_splits,
)


def test_a_channel_of_one_value_is_centred_and_not_divided_by_zero():
    images = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    images[:, 1] = 9
    images[0, 2] = 200
    mean, deviation = channel_statistics(images)
    assert mean.flatten().tolist() == [0, 9, 100]
    assert deviation.flatten().tolist() == [1, 1, 100]


def test_each_image_is_a_crop_of_the_padded_one_perhaps_mirrored():
    inputs = torch.arange(1.0, 1 + 400 * 2 * 5 * 6).view(400, 2, 5, 6)
    before = inputs.clone()
    found = crop_and_flip(inputs, torch.Generator().manual_seed(0))
    assert torch.equal(inputs, before)
    assert found.shape == inputs.shape
    assert found.is_contiguous()
    seen = set()
    for image, cropped in zip(torch.nn.functional.pad(inputs, [PADDING_PIXELS] * 4), found, strict=True):
        fitting = [
            (top, left, mirrored)
            for top in range(2 * PADDING_PIXELS + 1)
            for left in range(2 * PADDING_PIXELS + 1)
            for mirrored in (False, True)
            if torch.equal(cropped, hflip(crop(image, top, left, 5, 6)) if mirrored else crop(image, top, left, 5, 6))
        ]
        assert len(fitting) == 1
        seen.add(fitting[0])
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(9))
    assert {mirrored for _, _, mirrored in seen} == {False, True}


def test_shifts_and_mirrors_are_equally_likely():
    # One bright pixel in the middle tells where the image went.
    inputs = torch.zeros(20_000, 1, 11, 12)
    inputs[:, 0, 5, 5] = 1
    found = crop_and_flip(inputs, torch.Generator().manual_seed(0), Crops(padding=2))
    _, _, rows, columns = found.nonzero(as_tuple=True)
    assert len(rows) == 20_000
    # Seen from the middle, a column of a mirrored image is that of a shift the other way, and one further.
    counts = torch.zeros(5, 6, dtype=torch.long).index_put_((rows - 3, columns - 3), torch.tensor(1), accumulate=True)
    # Five standard deviations of the most frequent's share.
    off = 5 * (0.2 * 0.8 / 20_000) ** 0.5
    torch.testing.assert_close(counts.sum(1) / 20_000, torch.full((5,), 1 / 5), rtol=0, atol=off)
    expected = torch.tensor([1, 2, 2, 2, 2, 1]) / 10
    torch.testing.assert_close(counts.sum(0) / 20_000, expected, rtol=0, atol=off)


def test_without_mirroring_nothing_is_mirrored():
    inputs = torch.arange(1.0, 1 + 100 * 5 * 6).view(100, 1, 5, 6)
    found = crop_and_flip(inputs, torch.Generator().manual_seed(0), Crops(padding=1, mirror=False))
    for image, cropped in zip(torch.nn.functional.pad(inputs, [1] * 4), found, strict=True):
        assert any(
            torch.equal(cropped, image[:, top : top + 5, left : left + 6]) for top in range(3) for left in range(3)
        )


@pytest.mark.parametrize("black", [False, True])
def test_what_comes_in_at_the_edges(black):
    pixels = torch.full((50, 3, 4, 4), 200, dtype=torch.uint8)
    mean, deviation = torch.tensor([50.0, 100.0, 150.0]).view(3, 1, 1), torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1)
    samples = AugmentedImages(pixels, torch.zeros(50), mean, deviation, Crops(padding=3, black=black))
    found = samples.augment(samples[:][0], torch.Generator().manual_seed(0)) * deviation + mean
    for channel, edge in enumerate([0, 0, 0] if black else [50, 100, 150]):
        values = found[:, channel].round().unique().tolist()
        assert values == [edge, 200]


def test_splits_are_normalized_by_the_training_part():
    generator = torch.Generator().manual_seed(0)
    parts = {
        name: (torch.randint(low, high, (40, 2, 3, 3), generator=generator).to(torch.uint8), torch.arange(40) % 4)
        for name, low, high in (("train", 0, 100), ("validation", 50, 256), ("test", 100, 256))
    }
    splits = image_splits(parts, classes="abcd", crops=None)
    assert (splits.input_shape, splits.classes) == ((2, 3, 3), 4)
    train = parts["train"][0].double()
    mean, deviation = train.mean((0, 2, 3)).view(2, 1, 1), train.std((0, 2, 3), correction=0).view(2, 1, 1)
    for name, (pixels, labels) in parts.items():
        inputs, targets = splits.split(name)[:]
        torch.testing.assert_close(inputs.double(), (pixels - mean) / deviation, **NORMALIZED)
        assert torch.equal(targets, labels)
