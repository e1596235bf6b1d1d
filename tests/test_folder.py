"""Folders of real image files: every kind of file, labels, splits, the cache, large images."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import train
from mlx_gmvae.data import depth, image_folder, mapped
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.images import Rows, joined
from mlx_gmvae.data.splits import held_out_rows
from mlx_gmvae.errors import InputError

import mlx.core as mx
import numpy as np
import pytest
from pictures import PHOTO, kept_arrays, labelled, load_folder, pieces, write
from PIL import Image


def test_one_pixel_and_grey_sets(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "dots", f"{number}.png", Image.new("L", (1, 1), 60 * number))
        write(tmp_path / "mixed", f"{number}.png", PHOTO.convert("L"))
    assert load_folder(tmp_path / "dots").train.image_shape == (1, 1, 1)
    write(tmp_path / "mixed", "colour.png")
    splits = load_folder(tmp_path / "mixed")
    assert splits.train.image_shape == (32, 48, 3)
    everything = splits.named("all")
    grey = np.asarray(PHOTO.convert("L").convert("RGB"))
    np.testing.assert_array_equal(everything.images[everything.index == 0][0], grey)


def test_broken_files_are_skipped_and_listed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    for number, piece in enumerate(pieces(12)):
        write(folder, f"{number:02d}.png", piece)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    cut = write(folder, "cut.jpg", pieces(1)[0])
    cut.write_bytes(cut.read_bytes()[:-200])
    write(folder, "bomb.png", Image.new("1", (20_000, 20_000)))
    (folder / "._00.png").write_bytes(b"a resource fork")
    options = f"--dataset {folder} --model vae --arch mlp --hidden_dims 8 --epochs 1"
    options += f" --data_dir {tmp_path}/cache --outdir {tmp_path}/run"
    assert train.main(options.split()) == 0
    splits = load_folder(folder)
    assert len(splits.named("all")) == 12
    error = capfd.readouterr().err
    assert error.startswith(f"4 of 16 images in {folder} cannot be read and are left out: ")
    assert (
        "bomb.png (too many pixels: save it as a JPEG, or" in error and len(error.splitlines()) == 1
    )
    listed = Path(error.strip().rpartition(" ")[2]).read_text().splitlines()
    assert [line.partition(":")[0] for line in listed] == [
        "bomb.png", "cut.jpg", "empty.jpg", "text.png",
    ]  # fmt: skip
    assert "empty.jpg: empty" in listed and "text.png: not an image" in listed


def test_the_depth_is_that_of_the_whole_folder(tmp_path: Path) -> None:
    """Not of each image: a dark one stays dark. What is kept says it again."""
    folder = tmp_path / "cells"
    for number, largest in enumerate([4000, 1000, 300]):
        values = np.full((8, 8), largest, np.uint16)
        write(folder, f"{number}.tif", Image.fromarray(values))
    write(folder, "3.png", Image.new("L", (8, 8), 77))  # of 8 bits
    for _ in range(2):
        found = load_folder(folder).named("all")
        assert found.bits == 12
        assert found.notes == (depth.describe(str(folder), 12),)
        assert "values of 12 bits in images of 16 bits, scaled by 4095" in found.notes[0]
        assert found.images[np.argsort(found.index), 0, 0, 0].tolist() == [249, 62, 19, 77]
    full = load_folder(folder, bits=16).named("all")
    assert full.images.max() == 77 and full.bits == 16 and not full.notes
    write(folder, "4.tif", Image.fromarray(np.full((8, 8), 65535, np.uint16)))
    assert load_folder(folder).train.bits == 16 == load_folder(folder, bits=12).train.bits
    assert len(kept_arrays(folder)) == 1


def test_pages_that_are_not_looked_at_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "stacks"
    first, *others = pieces(5)
    write(folder, "stack.tif", first, save_all=True, append_images=others)
    write(folder, "one.tif", first)
    for _ in range(2):
        (note,) = load_folder(folder).train.notes
        assert "of a TIFF file with 5 pages only the first page is read" in note and ".npy" in note


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "pgm", "ppm", "pnm", "pbm", "jp2", "apng"])
def test_other_suffixes_of_pictures(suffix: str, tmp_path: Path) -> None:
    grey = {"pgm": "L", "pbm": "1"}.get(suffix, "RGB")
    for number, piece in enumerate(pieces(2)):
        write(tmp_path / "photos", f"{number}.{suffix}", piece.convert(grey))
    splits = load_folder(tmp_path / "photos")
    assert [len(part) for part in splits] == [1, 1] and not splits.train.notes


def test_nothing_readable_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(InputError, match=r"no images \(.jpg"):
        load_folder(folder)
    (folder / "a.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"0 readable images; at least 2.*a.jpg \(empty\)"):
        load_folder(folder)


def test_mixed_sizes_get_one_that_is_proposed(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(6):
        write(folder, f"{number}.png", PHOTO if number < 4 else PHOTO.resize((20, 10)))
    splits = load_folder(folder)
    assert splits.train.image_shape == (32, 48, 3)
    assert splits.train.fitted == (
        f"{folder}: images of 2 sizes (48 x 32 in 4, 20 x 10 in 2); the middle of each is cropped "
        "and resized to 48 x 32 (width x height; --image_size H W chooses another size)"
    )
    everything = splits.named("all")
    (same,) = everything.images[everything.index == 0]
    np.testing.assert_array_equal(same, np.asarray(PHOTO))
    assert len(kept_arrays(folder)) == 1
    again = load_folder(folder, image_size=(32, 48))  # which was decoded already
    assert len(kept_arrays(folder)) == 1 and "--image_size" not in again.train.fitted
    assert load_folder(folder, image_size=(12, 18)).train.image_shape == (12, 18, 3)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "pets", "dog cat fox")
    splits = load_folder(folder)
    assert splits.train.class_names == ("cat", "dog", "fox")
    assert (len(splits.train), len(splits.test)) == (24, 6)
    for part in splits:
        assert part.labels is not None
        for image, label, index in zip(part.images, part.labels, part.index, strict=True):
            path = Path(part.files[index])
            assert path.parent.parent.name == part.class_names[label]
            np.testing.assert_array_equal(image, np.asarray(Image.open(path)))
    some = load_folder(folder, classes=["dog", "fox"])
    assert some.train.labels is not None and set(some.train.labels) == {1, 2}
    # A class keeps its division into training and test images.
    assert set(some.test.index) == set(splits.test.index[splits.test.labels != 0])
    with pytest.raises(InputError, match="no class cow; it has cat, dog, fox"):
        load_folder(folder, classes=["cow"])
    write(folder, "loose.png", pieces(1)[0])
    assert load_folder(folder).train.labels is None
    with pytest.raises(InputError, match="no labels"):
        load_folder(folder, classes=["cat"])


def test_train_and_test_folders_are_splits(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    labelled(folder / "Train", num=5)
    labelled(folder / "TEST", num=3)
    train_part, test_part = load_folder(folder)
    assert (len(train_part), len(test_part)) == (10, 6)
    assert train_part.class_names == test_part.class_names == ("cat", "dog")
    assert all("/TEST/" in test_part.files[index] for index in test_part.index)
    labelled(folder / "val", num=3)
    with pytest.raises(InputError, match="TEST, Train, val, but only two splits"):
        load_folder(folder)


def test_labels_may_be_ignored(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "pets", "cat dog fox", num=4)
    splits = load_folder(folder)
    assert splits.train.notes == (
        f"3 sub-folders of {folder} are taken as classes, for the scores only; --no_labels ignores "
        "them",
    )
    plain = load_folder(folder, labels=False)
    for one, other in zip(splits, plain, strict=True):
        assert other.labels is None and not other.class_names and not other.notes
        np.testing.assert_array_equal(one.images, other.images)
    assert (
        len(kept_arrays(folder)) == 1
        and not load_folder(folder, classes=["cat", "fox"]).train.notes
    )


def test_one_sub_folder_is_no_class(tmp_path: Path) -> None:
    assert load_folder(labelled(tmp_path / "pets", "cat")).train.labels is None


def test_both_splits_are_views_of_one_memory_map(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "pets")
    splits = load_folder(folder)
    everything = splits.named("all")
    for part in (*splits, everything):
        assert isinstance(part.images.base, np.memmap)
        assert part.images.flags.c_contiguous and not part.images.flags.owndata
        assert part.images.base is splits.train.images.base
    np.testing.assert_array_equal(everything.images, np.concatenate([p.images for p in splits]))
    _, test_rows = held_out_rows(20)
    np.testing.assert_array_equal(splits.test.index, test_rows)
    assert isinstance(mx.array(everything.images[3:5]), mx.array)


def test_the_cache_is_used_again_and_follows_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = labelled(tmp_path / "pets")
    before = load_folder(folder)
    (array,) = kept_arrays(folder)
    written = array.stat().st_mtime_ns
    np.testing.assert_array_equal(load_folder(folder).test.images, before.test.images)
    assert [array] == kept_arrays(folder) and array.stat().st_mtime_ns == written
    load_folder(folder, image_size=(5, 5))
    assert len(kept_arrays(folder)) == 2  # other options, the same files: both stay
    changed = write(folder / "cat" / "deeper", "03.png", Image.new("RGB", (16, 16), "red"))
    after = load_folder(folder).named("all")
    assert len(kept_arrays(folder)) == 1 and not array.exists()
    row = after.files.index(str(changed))
    assert (after.images[after.index == row] == [255, 0, 0]).all()
    os.utime(changed, ns=(1, 1))
    load_folder(folder)
    assert len(kept_arrays(folder)) == 1
    kept_arrays(folder)[0].write_bytes(b"damaged")
    np.testing.assert_array_equal(load_folder(folder).named("all").images, after.images)
    described = kept_arrays(folder)[0].with_suffix(".json")
    right = json.loads(described.read_text())
    for wrong in (7, [right], right | {"train": 7}, {"same_as": 7}):
        described.write_text(json.dumps(wrong))
        np.testing.assert_array_equal(load_folder(folder).named("all").images, after.images)
    assert not list((tmp_path / "cache" / "folders").glob(".saving-*"))


def test_a_cache_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = labelled(tmp_path / "pets")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot keep decoded images in .*--data_dir"):
        load_dataset(str(folder), tmp_path / "file")
    usage = mapped.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(mapped.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"20 decoded images of 16 x 16 x 3 need .* are free"):
        load_folder(folder)
    assert not list((tmp_path / "cache" / "folders").iterdir())


def test_folders_may_be_links_even_in_circles(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "pets")
    (folder / "cat" / "round").symlink_to(folder)
    outside = labelled(tmp_path / "more", "fox", num=3)
    (folder / "fox").symlink_to(outside / "fox")
    assert len(load_folder(folder).named("all")) == 23


def test_arrays_side_by_side_are_joined_without_a_copy() -> None:
    whole = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2).copy()  # of no other array
    assert np.shares_memory(joined(whole[:2], whole[2:5]), whole)
    for parts in [(whole[:2], whole[3:5]), (whole[3:], whole[:3]), (whole[:2].copy(), whole[2:])]:
        np.testing.assert_array_equal(joined(*parts), np.concatenate(parts))


def test_rows_are_read_block_by_block(small_images: np.ndarray) -> None:
    rows = np.array([5, 3, 3, 60])
    some = Rows(small_images, rows)
    assert (len(some), some.shape) == (4, (4, 9, 6, 3))
    np.testing.assert_array_equal(some[1:3], small_images[rows[1:3]])


def test_two_that_decode_one_folder_at_a_time_read_the_same(tmp_path: Path) -> None:
    for number, image in enumerate(pieces(40)):
        write(tmp_path / "photos", f"{number}.png", image)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_folder(tmp_path / "photos"), range(4)))
    for splits in found:
        np.testing.assert_array_equal(splits.train.images, found[0].train.images)
    assert len(kept_arrays(tmp_path / "photos")) == 1
    assert not list((tmp_path / "cache").rglob(".*"))


def test_a_folder_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is gone is left out with a note, what is new is seen the next time."""
    photos = tmp_path / "photos"
    images = pieces(12)
    for number, image in enumerate(images[:10]):
        write(photos, f"{number}.png", image)
    before = image_folder.read_headers

    def changed_then(*args: Any) -> Any:
        (photos / "3.png").unlink()
        write(photos, "4.png", images[11])
        write(photos, "new.png", images[10])
        found = before(*args)
        (photos / "5.png").unlink()
        return found

    monkeypatch.setattr(image_folder, "read_headers", changed_then)
    splits = load_folder(photos)
    assert sum(map(len, splits)) == 8
    (note,) = splits.train.notes
    assert "2 of 10 images" in note and "3.png" in note and "5.png" in note
    monkeypatch.undo()
    again = load_folder(photos)
    assert sum(map(len, again)) == 9 and not again.train.notes
    assert len(kept_arrays(photos)) == 1
