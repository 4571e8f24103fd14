import errno
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tolerances import NORMALIZED

from bitsearch.data import batches, load_data
from bitsearch.data.sets.image_folder import image_folder
from bitsearch.errors import InputError
from bitsearch.space import SearchSpace

PARTS = ("train", "validation", "test")
CLASSES = ("ant", "bee", "cow")
TRAIN, TEST = 20, 5


def write_image(file, seed, *, width=8, height=8):
    """A smooth random image, which JPEG changes little."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, quality=95)


def write_folder(root, *, train=TRAIN, test=TEST, classes=CLASSES):
    """JPEG for the first class, PNG for the others."""
    for label, name in enumerate(classes):
        suffix = "png" if label else "jpg"
        for part, count in (("train", train), ("test", test)):
            for index in range(count):
                seed = 10_000 * label + 1_000 * (part == "test") + index
                write_image(root / part / name / f"{index:03}.{suffix}", seed)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that tests read and leave as it is."""
    return write_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def splits(folder):
    return image_folder(root=str(folder))


def pixels(part):
    return part.tensors[0]


def labels(part):
    return part.tensors[1]


def rows(part):
    """The images of a part, as a set that can be compared."""
    return {bytes(image.flatten().tolist()) for image in pixels(part)}


def refusal(root, **options):
    """The message, which has to be one line."""
    with pytest.raises(InputError) as caught:
        load_data("image_folder", {"root": str(root), **options}, split_seed=0)
    message = str(caught.value)
    assert message.startswith("image_folder: ")
    assert "\n" not in message
    return message


def test_sizes_shapes_and_kinds(splits):
    assert [len(splits.split(name)) for name in PARTS] == [54, 6, 15]
    assert (splits.input_shape, splits.classes) == ((3, 8, 8), 3)
    for name in PARTS:
        part = splits.split(name)
        inputs, targets = part[:4]
        assert (inputs.shape, inputs.dtype) == ((4, 3, 8, 8), torch.float32)
        assert (targets.shape, targets.dtype) == ((4,), torch.int64)
        assert part[0][0].shape == (3, 8, 8)
        assert pixels(part).dtype == torch.uint8
        assert set(labels(part).tolist()) == {0, 1, 2}


def test_every_image_is_in_one_part_and_test_has_none_from_the_training_folder(folder, splits):
    train, validation, test = (rows(splits.split(name)) for name in PARTS)
    assert (len(train), len(validation), len(test)) == (54, 6, 15)
    assert len(train | validation | test) == 75

    def written(part):
        files = [file for name in CLASSES for file in (folder / part / name).iterdir()]
        return {bytes(np.asarray(Image.open(file)).transpose(2, 0, 1).flatten().tolist()) for file in files}

    assert train | validation == written("train")
    assert test == written("test")


def test_labels_are_the_folders_in_alphabetical_order(folder, splits):
    for name in PARTS:
        for image, label in zip(pixels(splits.split(name)), labels(splits.split(name)).tolist(), strict=True):
            files = (folder / ("test" if name == "test" else "train") / CLASSES[label]).iterdir()
            assert any(np.array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), image) for file in files)


def test_every_class_has_its_share_in_validation(tmp_path):
    root = write_folder(tmp_path)
    for index in range(10, TRAIN):
        (root / "train" / "bee" / f"{index:03}.png").unlink()
    found = image_folder(root=str(root), validation_share=0.3)
    assert labels(found.validation).bincount().tolist() == [6, 3, 6]
    assert labels(found.train).bincount().tolist() == [14, 7, 14]


def test_a_small_share_still_holds_one_image_of_every_class_back(folder):
    found = image_folder(root=str(folder), validation_share=0.001)
    assert labels(found.validation).bincount().tolist() == [1, 1, 1]


def test_the_seed_fixes_the_split(folder, splits):
    again, other = (image_folder(root=str(folder), split_seed=seed) for seed in (0, 1))
    for name in PARTS:
        assert torch.equal(pixels(splits.split(name)), pixels(again.split(name)))
        assert torch.equal(labels(splits.split(name)), labels(again.split(name)))
    assert rows(splits.validation) != rows(other.validation)
    assert rows(splits.test) == rows(other.test)


def test_the_first_samples_are_of_all_classes(splits):
    for name in ("train", "test"):
        assert set(labels(splits.split(name))[:15].tolist()) == {0, 1, 2}


def test_a_limit_keeps_so_many_images_a_class_and_the_seed_says_which(folder):
    options = {"root": str(folder), "limit": 4, "validation_share": 0.25}
    found, again, other = (image_folder(**options, split_seed=seed) for seed in (0, 0, 1))
    assert [labels(found.split(name)).bincount().tolist() for name in PARTS] == [[3] * 3, [1] * 3, [4] * 3]
    assert [rows(found.split(name)) for name in PARTS] == [rows(again.split(name)) for name in PARTS]
    assert rows(found.train) | rows(found.validation) != rows(other.train) | rows(other.validation)
    beyond = image_folder(root=str(folder), limit=1000)
    assert [len(beyond.split(name)) for name in PARTS] == [54, 6, 15]


def test_inputs_are_normalized_on_the_training_part_alone(splits):
    inputs = splits.train[:][0].double()
    assert inputs.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=NORMALIZED["atol"])
    assert inputs.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=NORMALIZED["atol"])
    train = pixels(splits.train).double()
    mean, deviation = train.mean((0, 2, 3)).view(3, 1, 1), train.std((0, 2, 3), correction=0).view(3, 1, 1)
    for name in ("validation", "test"):
        part = splits.split(name)
        torch.testing.assert_close(part[:][0].double(), (pixels(part) - mean) / deviation, **NORMALIZED)
        assert part[:][0].mean().item() != pytest.approx(0, abs=NORMALIZED["atol"])


def test_grey_and_transparent_images_are_read_as_colour(tmp_path):
    root = write_folder(tmp_path)
    Image.new("L", (8, 8), 77).save(root / "test" / "ant" / "000.jpg")
    Image.new("RGBA", (8, 8), (1, 2, 3, 0)).save(root / "test" / "bee" / "000.png")
    found = rows(image_folder(root=str(root)).test)
    assert bytes([77] * 192) in found
    assert bytes([1] * 64 + [2] * 64 + [3] * 64) in found


def test_size_resizes_with_antialiasing_and_leaves_images_of_that_size_alone(tmp_path):
    root = write_folder(tmp_path)
    stripes = np.zeros((16, 32, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(root / "test" / "bee" / "000.png")
    found = image_folder(root=str(root), size=8)
    assert found.input_shape == (3, 8, 8)
    assert len(rows(found.test) & rows(image_folder(root=str(write_folder(tmp_path / "all"))).test)) == 14
    resized = [image for image in pixels(found.test) if (image.float() - 100).abs().max() < 20]
    assert len(resized) == 1  # Every fourth pixel alone would be 200 throughout.


def test_images_need_not_be_square(tmp_path):
    root = tmp_path
    for part in ("train", "test"):
        for seed, name in enumerate(("ant", "ant", "bee", "bee")):
            write_image(root / part / name / f"{seed}.png", seed, width=6, height=4)
    found = image_folder(root=str(root))
    assert found.input_shape == (3, 4, 6)
    assert found.train[0][0].shape == (3, 4, 6)


def test_a_home_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(image_folder(root=f"~/{folder.name}").test) == 15


# Augmentation.


def shuffled(part, seed):
    """(inputs, labels) of one pass in shuffled batches."""
    found = list(batches(part, 16, torch.Generator().manual_seed(seed)))
    return torch.cat([inputs for inputs, _ in found]), torch.cat([targets for _, targets in found])


def test_augmentation_follows_the_generator_and_keeps_the_labels(folder, splits):
    augmented = image_folder(root=str(folder), augment=True)
    first, again, other = (shuffled(augmented.train, seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (54, 3, 8, 8)
    assert first[0].dtype == torch.float32
    plain = shuffled(splits.train, 3)
    assert not torch.equal(first[0][:16], plain[0][:16])
    # The order is drawn before the first crop: it is that of the plain images.
    assert torch.equal(first[1], plain[1])
    assert first[1].bincount().tolist() == [18, 18, 18]


def test_two_passes_of_one_generator_are_cropped_differently(folder):
    part = image_folder(root=str(folder), augment=True).train
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat([x for x, _ in batches(part, 16, generator)]) for _ in range(2))
    assert not torch.equal(first.sort(0).values, second.sort(0).values)


def test_only_shuffled_training_batches_are_augmented(folder, splits):
    augmented = image_folder(root=str(folder), augment=True)
    for name in PARTS:
        in_order = torch.cat([inputs for inputs, _ in batches(augmented.split(name), 16)])
        assert torch.equal(in_order, splits.split(name)[:][0])
        assert torch.equal(augmented.split(name)[:][0], splits.split(name)[:][0])
    for name in ("validation", "test"):
        for mine, plain in zip(shuffled(augmented.split(name), 0), shuffled(splits.split(name), 0), strict=True):
            assert torch.equal(mine, plain)


def test_a_users_own_samples_may_augment_as_well():
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return torch.zeros(2), torch.tensor(index)

        def augment(self, inputs, generator):
            return inputs + torch.rand(inputs.shape, generator=generator)

    assert all((inputs == 0).all() for inputs, _ in batches(Noisy(), 4))
    first, again = (list(batches(Noisy(), 4, torch.Generator().manual_seed(1))) for _ in range(2))
    assert all((inputs > 0).all() for inputs, _ in first)
    assert all(torch.equal(mine[0], theirs[0]) for mine, theirs in zip(first, again, strict=True))


# What a user may get wrong.


def test_a_missing_root_says_what_to_set():
    message = refusal("")
    assert message.startswith("image_folder: no root given; set root in data_options to the folder that holds train/")
    with pytest.raises(InputError, match="no root given"):
        load_data("image_folder", {}, split_seed=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"root": 3}, "no root given"),
        ({"size": 0}, "size is 0; give a whole number of pixels from 1 to 4096"),
        ({"size": 5000}, "size is 5000; give"),
        ({"size": 8.0}, "size is 8.0; give"),
        ({"size": "8"}, "size is '8'; give"),
        ({"size": True}, "size is True; give"),
        ({"limit": 1}, "limit is 1; give a whole number of samples a class, at least 2"),
        ({"limit": 2.5}, "limit is 2.5; give"),
        ({"validation_share": 0}, "validation_share is 0; give a share above 0 and below 1"),
        ({"validation_share": 1.0}, "validation_share is 1.0; give"),
        ({"validation_share": float("nan")}, "validation_share is nan; give"),
        ({"validation_share": "a tenth"}, "validation_share is 'a tenth'; give"),
        ({"augment": 1}, "augment is 1; give true or false"),
    ],
)
def test_wrong_options_are_refused(folder, options, expected):
    root = options.pop("root", str(folder))
    with pytest.raises(InputError) as caught:
        image_folder(root=root, **options)
    assert f"image_folder: {expected}" in str(caught.value)


def test_an_unknown_option_is_refused(folder):
    with pytest.raises(InputError, match=r"data set 'image_folder' does not take .*'sizes': 3"):
        load_data("image_folder", {"root": str(folder), "sizes": 3}, split_seed=0)


def test_a_folder_that_is_not_there(tmp_path):
    missing = tmp_path / "images"
    assert f"no folder '{missing}'; give the path of a folder as root" in refusal(missing)
    missing.write_text("a file")
    assert f"no folder '{missing}'" in refusal(missing)
    assert "no-such-user" in refusal("~no-such-user/images")


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.is_dir", refuse)
    message = refusal(folder)
    assert f"cannot read the folder '{folder}' ([Errno 13] Permission denied" in message


@pytest.mark.parametrize("missing", ["train", "test"])
def test_train_and_test_have_to_be_there(tmp_path, missing):
    root = write_folder(tmp_path)
    (root / missing).rename(root / "val")
    kept = "train" if missing == "test" else "test"
    assert f"'{root}' needs the folders 'train' and 'test'; in it: '{kept}', 'val'" in refusal(root)


def test_an_empty_folder(tmp_path):
    assert "needs the folders 'train' and 'test'; in it: nothing" in refusal(tmp_path)


def test_images_without_class_folders(tmp_path):
    for part in ("train", "test"):
        write_image(tmp_path / part / "1.png", 1)
    assert f"no folders in '{tmp_path / 'train'}'; put the images in one folder a class" in refusal(tmp_path)


def test_one_class_only(tmp_path):
    assert "has the one class 'ant'; at least 2 needed" in refusal(write_folder(tmp_path, classes=["ant"]))


def test_classes_that_differ_are_named(tmp_path):
    root = write_folder(tmp_path)
    (root / "test" / "ant").rename(root / "test" / "dog")
    shutil.rmtree(root / "test" / "bee")
    message = refusal(root)
    assert message.endswith("must have the same classes; only in train: 'ant', 'bee'; only in test: 'dog'")


def test_a_long_list_of_classes_is_cut(tmp_path):
    root = write_folder(tmp_path)
    for index in range(7):
        (root / "train" / f"x{index}").mkdir()
    assert "only in train: 'x0', 'x1', 'x2', 'x3', 'x4' and 2 more" in refusal(root)


@pytest.mark.parametrize(("part", "kept", "least"), [("train", 1, 2), ("train", 0, 2), ("test", 0, 1)])
def test_too_few_images_of_a_class(tmp_path, part, kept, least):
    root = write_folder(tmp_path)
    for file in sorted((root / part / "bee").iterdir())[kept:]:
        file.unlink()
    (root / part / "bee" / "notes.txt").write_text("not an image")
    assert f"samples of class 'bee' in '{root / part}': {kept}; at least {least} needed" in refusal(root)


def test_a_share_that_leaves_nothing_to_train_on(folder):
    message = refusal(folder, validation_share=0.9, limit=2)
    assert "validation_share 0.9 of the 2 samples of class 'ant' leaves none for training" in message


def test_a_file_that_is_no_image(tmp_path):
    file = write_folder(tmp_path) / "train" / "bee" / "003.png"
    file.write_text("not an image")
    assert f"cannot read the image '{file}' (its format is unknown); mend or remove it" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["ant/002.jpg", "bee/002.png"])
def test_an_image_that_is_cut_off(tmp_path, name):
    file = write_folder(tmp_path) / "train" / name
    write_image(file, 1, width=64, height=64)
    file.write_bytes(file.read_bytes()[:-200])
    message = refusal(tmp_path, size=8)
    assert f"cannot read the image '{file}' (" in message
    assert "truncated" in message


def test_more_than_8_bits_a_channel_are_refused_rather_than_clipped(tmp_path):
    file = write_folder(tmp_path) / "train" / "bee" / "003.png"
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(file)
    assert f"'{file}' has more than 8 bits a channel; convert it to 8" in refusal(tmp_path)


def test_images_of_several_sizes(tmp_path):
    file = write_folder(tmp_path) / "test" / "bee" / "003.png"
    write_image(file, 1, width=12, height=10)
    message = refusal(tmp_path)
    assert f"'{file}' has 12 × 10 pixels, '{tmp_path / 'train'}" in message
    assert message.endswith("has 8 × 8; give size in data_options to resize all")
    assert image_folder(root=str(tmp_path), size=8).input_shape == (3, 8, 8)


def test_images_that_do_not_fit_into_memory(folder, monkeypatch):
    empty = np.empty

    def refuse(shape, *args, **kwargs):
        if np.ndim(shape) and len(shape) == 4:
            raise MemoryError
        return empty(shape, *args, **kwargs)

    monkeypatch.setattr(np, "empty", refuse)
    assert "GB of images do not fit into memory; give size or limit" in refusal(folder)


# The shipped search space.


def test_the_shipped_space_needs_a_root_and_takes_it(folder):
    space = SearchSpace.load("cifar10_folder")
    with pytest.raises(InputError, match="no root given"):
        load_data(space.data, space.data_options, split_seed=space.split_seed)
    options = {**space.data_options, "root": str(folder)}
    found = load_data(space.data, options, split_seed=space.split_seed)
    assert found.input_shape == (3, 32, 32)
    assert hasattr(found.train, "augment")


def test_every_unreadable_file_is_counted(tmp_path):
    write_folder(tmp_path)
    for name in ("bee/000.png", "bee/003.png", "cow/007.png"):
        (tmp_path / "train" / name).write_bytes(b"no image")
    message = refusal(tmp_path)
    assert re.search(
        r"cannot read the image '.*(bee|cow)/00\d\.png' \(its format is unknown\); mend or remove it", message
    )
    assert message.endswith("; 2 other files cannot be used either")


def test_files_that_macos_puts_beside_images_are_none(tmp_path, folder):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for part in ("train", "test"):
        (tmp_path / part / "bee" / "._001.png").write_bytes(b"\0\5\x16\7")
    found = image_folder(root=str(tmp_path))
    assert [len(found.split(part)) for part in PARTS] == [54, 6, 15]


def test_a_link_to_a_folder_around_it_is_refused(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train" / "bee" / "all").symlink_to(tmp_path / "train")
    assert "all' is a link to a folder that it lies in; remove it" in refusal(tmp_path)


def test_a_link_to_another_folder_is_followed(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "copy")
    shutil.move(tmp_path / "copy" / "train" / "bee", tmp_path / "bee")
    (tmp_path / "copy" / "train" / "bee").symlink_to(tmp_path / "bee")
    assert len(image_folder(root=str(tmp_path / "copy")).train) == 54


def test_an_image_stands_as_its_camera_noted(tmp_path):
    write_folder(tmp_path)
    upright = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter clockwise to be seen
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "test" / "bee" / "000.png", exif=exif)
    splits = image_folder(root=str(tmp_path))
    upright.save(tmp_path / "test" / "bee" / "000.png")
    assert torch.equal(pixels(splits.test), pixels(image_folder(root=str(tmp_path)).test))
