"""Every way in for images: IDX files, arrays, downloads from a real server, and wrong files."""

from pathlib import Path
from typing import Any

import mlx_gmvae as mg
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.decode import decode
from mlx_gmvae.data.fitting import fit_images
from mlx_gmvae.data.idx import parse_idx
from mlx_gmvae.data.images import as_uint8_images
from mlx_gmvae.errors import InputError

import numpy as np
import pytest
from idx_files import IMAGES, LABELS, idx_bytes, require_parts, rng, write_set
from PIL import Image


def test_idx_round_trip() -> None:
    np.testing.assert_array_equal(parse_idx(idx_bytes(IMAGES), "x"), IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "wrong magic number"),
        (b"\x89PNG" + bytes(100), "wrong magic number"),
        (idx_bytes(IMAGES, kind=13), "unsigned bytes"),
        (idx_bytes(IMAGES)[:-1], "truncated"),
        (idx_bytes(IMAGES)[:6], "truncated"),
        (idx_bytes(IMAGES) + b"\0", "too long"),
    ],
)
def test_wrong_idx_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_idx(content, "file")


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    train, test = load_dataset("digits")
    assert len(train) + len(test) == 1797
    source = load_digits()
    for part in (train, test):
        assert part.labels is not None
        np.testing.assert_array_equal(part.labels, source.target[part.index])
        back = part.images[..., 0] / 255 * 16
        np.testing.assert_allclose(back, source.images[part.index], atol=0.04)
    assert not set(train.index) & set(test.index)
    np.testing.assert_array_equal(load_dataset("digits").test.index, test.index)


def test_all_is_train_then_test() -> None:
    splits = load_dataset("digits")
    everything = splits.named("all")
    assert len(everything) == 1797
    np.testing.assert_array_equal(np.sort(everything.index), np.arange(1797))
    assert splits.named("test") is splits.test


def test_classes_keep_only_what_is_named() -> None:
    train, test = load_dataset("digits", classes=["1", "4", "8"])
    assert train.labels is not None and test.labels is not None
    assert set(np.unique(train.labels)) == set(np.unique(test.labels)) == {1, 4, 8}
    with pytest.raises(InputError, match="no class cat"):
        load_dataset("digits", classes=["cat"])


@pytest.mark.parametrize(
    "wrong", [{"image_size": "ab"}, {"image_size": [5]}, {"classes": 3}, {"classes": [1]},
              {"fit": "squeeze"}, {"channels": 2}],
)  # fmt: skip
def test_descriptions_of_data_are_checked_too(wrong: dict[str, Any]) -> None:
    """They are read from model files."""
    with pytest.raises(InputError, match=next(iter(wrong))):
        load_dataset("digits", **wrong)


def test_image_size_resizes() -> None:
    train, _ = load_dataset("digits", image_size=(12, 20))
    assert train.image_shape == (12, 20, 1)
    flat = np.full((2, 5, 7, 3), 99, np.uint8)
    for how in ("crop", "stretch", "pad"):
        fitted = fit_images(flat, (9, 3), how)
        np.testing.assert_array_equal(fitted, np.full((2, 9, 3, 3), 99))


@pytest.mark.parametrize("images", [IMAGES, IMAGES / 255, (IMAGES / 255).astype(np.float32)])
def test_array_files(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "a.npz", images=images, labels=LABELS)
    plain, labelled = (load_dataset(str(tmp_path / name)) for name in ("a.npy", "a.npz"))
    assert plain.train.labels is None and labelled.train.labels is not None
    for splits in (plain, labelled):
        assert (len(splits.train), len(splits.test)) == (16, 4)
        np.testing.assert_array_equal(splits.test.images[..., 0], IMAGES[splits.test.index])
    np.testing.assert_array_equal(labelled.test.labels, LABELS[labelled.test.index])


def test_array_file_with_its_own_test_split_and_named_classes(tmp_path: Path) -> None:
    path = tmp_path / "pets.npz"
    names = np.array(["dog", "cat"])[np.arange(20) % 2]
    colour = np.repeat(IMAGES[..., None], 3, axis=-1)
    np.savez(path, images=colour, labels=names, test_images=colour[:3], test_labels=names[:3])
    train, test = load_dataset(str(path))
    assert (len(train), len(test), train.image_shape) == (20, 3, (5, 4, 3))
    assert train.class_names == ("cat", "dog")
    np.testing.assert_array_equal(test.labels, [1, 0, 1])


@pytest.mark.parametrize("plain", [1, 3])
def test_alpha_of_arrays_is_put_on_white_as_that_of_files(tmp_path: Path, plain: int) -> None:
    images = rng.integers(0, 256, (20, 5, 4, plain + 1), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "b.npy", images / 255)
    loaded = load_dataset(str(tmp_path / "a.npy")).test
    assert loaded.image_shape == (5, 4, plain)
    assert f"last of {plain + 1} channels" in loaded.notes[0]
    for row, image in zip(loaded.index, loaded.images, strict=True):
        Image.fromarray(images[row]).save(tmp_path / "a.png")
        of_file = decode(str(tmp_path / "a.png"), plain, (5, 4), "crop")
        assert np.abs(image.astype(int) - of_file).max() <= 1
    np.testing.assert_array_equal(load_dataset(str(tmp_path / "b.npy")).test.images, loaded.images)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((9, 3, 32, 32))}, r"channel-first; save images.transpose\(0, 2, 3, 1"),
        ({"images": np.zeros((9, 1, 28, 20), np.uint8)}, "channel-first"),
        ({"images": np.zeros((9, 28, 28, 28), np.uint8)}, "28 channels; they must have 1"),
        ({"x": IMAGES}, "no array named images"),
        ({"images": IMAGES[0]}, "shape"),
        (
            {"images": np.zeros((48, 64, 3), np.uint8)},
            r"one colour image.* give images \(N, H, W, C\)",
        ),
        ({"images": np.full((3, 2, 2), np.nan)}, "image 0 .* NaN"),
        ({"images": np.where(np.arange(12) == 7, np.inf, 0).reshape(3, 2, 2)}, "image 1 .* inf"),
        ({"images": np.full((3, 2, 2), 7.0)}, "rescale"),
        ({"images": np.full((3, 2, 2), -1)}, "rescale"),
        ({"images": IMAGES, "labels": LABELS[:5]}, "20 whole numbers"),
        ({"images": IMAGES, "labels": LABELS / 2}, "20 whole numbers"),
        ({"images": IMAGES, "test_images": IMAGES[:, :4]}, "test images"),
        ({"images": IMAGES[:1]}, "at least 2"),
        ({"images": np.array([{}], dtype=object)}, "not a readable"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        load_dataset(str(path))


def test_idx_folder(tmp_path: Path) -> None:
    write_set(tmp_path)
    require_parts(load_dataset(str(tmp_path)))


def test_train_and_test_read_apart_share_classes_and_positions(tmp_path: Path) -> None:
    """Classes that only one of them has keep their names, and no two images one position."""
    images = np.zeros((6, 4, 4), np.uint8)
    cases: list[tuple[tuple[str, ...], list[Any], list[Any]]] = [
        (("ant", "bee", "cow"), ["cow", "ant", "cow", "ant", "cow", "ant"], ["bee"] * 6),
        (("0", "1", "2", "3"), [0, 1, 2, 0, 1, 2], [3, 3, 3, 3, 0, 0]),
    ]
    for names, train_labels, test_labels in cases:
        np.savez(tmp_path / "a.npz", images=images, labels=train_labels, test_images=images,
                 test_labels=test_labels)  # fmt: skip
        splits = load_dataset(str(tmp_path / "a.npz"))
        everything = splits.named("all")
        assert everything.class_names == names
        assert everything.index.tolist() == list(range(12))
        expected = [str(label) for label in [*train_labels, *test_labels]]
        assert everything.label_names.tolist() == expected


def test_a_home_that_is_not_there_is_one_line() -> None:
    with pytest.raises(InputError, match="nosuchuser"):
        load_dataset("~nosuchuser/images.npy")


def test_idx_folder_of_one_file_holds_out(tmp_path: Path) -> None:
    write_set(tmp_path, ("mine",))
    train, test = load_dataset(str(tmp_path))
    assert (len(train), len(test)) == (16, 4)


def test_arrays_of_sixteen_bits_are_scaled_by_those_in_use(tmp_path: Path) -> None:
    images = np.full((6, 4, 4), 100, np.uint16)
    np.savez(tmp_path / "a.npz", images=images, test_images=images[:2] * 40)
    train, test = load_dataset(str(tmp_path / "a.npz"))
    assert (train.images == 6).all() and (test.images == 249).all()  # of 12 bits, both
    assert train.bits == 12 and train.notes == (
        f"{tmp_path}/a.npz: values of 12 bits in images of 16 bits, scaled by 4095 (--bits N if "
        "they can have more)",
    )
    assert load_dataset(str(tmp_path / "a.npz"), bits=14).test.images.max() == 62
    np.save(tmp_path / "b.npy", images)  # values of bytes
    assert (load_dataset(str(tmp_path / "b.npy")).train.images == 100).all()
    for dtype in (np.uint16, np.int64):
        with pytest.raises(InputError, match=r"can have, such as 4095 for 12-bit images"):
            as_uint8_images(images.astype(dtype) * 40, "X")
    with pytest.raises(InputError, match="bits is 11; it must be one of 8, 10"):
        load_dataset("digits", bits=11)


def test_a_mask_is_not_dropped() -> None:
    masked = np.ma.masked_less(np.linspace(0, 1, 96).reshape(6, 4, 4), 0.2)
    model = mg.build_model(mg.ModelConfig(image_size=(4, 4), arch="mlp", hidden_dims=4))
    for use in (
        lambda: as_uint8_images(masked, "images"),
        lambda: mg.train(model, masked),
        lambda: model.encode(masked),
        lambda: mg.GMVAEClusterer().fit(masked),
    ):
        with pytest.raises(InputError, match=r"a masked array.*\.filled\(0\)"):
            use()


@pytest.mark.parametrize(
    ("left_out", "note"),
    [
        ("labels", "the labels of the test images are not used, since the training images have"),
        ("test_labels", "the labels of the training images are not used, since the test images"),
        ("test_images", "test_labels are not used, since there are no test_images"),
    ],
)
def test_labels_that_are_not_used_are_said(left_out: str, note: str, tmp_path: Path) -> None:
    images, labels = np.zeros((6, 4, 4), np.uint8), np.arange(6)
    arrays: dict[str, Any] = {
        "images": images,
        "labels": labels,
        "test_images": images,
        "test_labels": labels,
    }
    del arrays[left_out]
    np.savez(tmp_path / "a.npz", **arrays)
    (line,) = load_dataset(str(tmp_path / "a.npz")).train.notes
    assert note in line


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    for source, message in [
        ("", "name of the dataset is empty"),
        ("mnits", "choose one of mnist"),
        (str(tmp_path / "none"), "no dataset or path"),
        (str(tmp_path), "holds no IDX"),
        (str(tmp_path / "text.txt"), "neither a folder"),
        (str(tmp_path / "cut.npy"), "not a readable"),
    ]:
        with pytest.raises(InputError, match=message):
            load_dataset(source)
