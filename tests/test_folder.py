"""Folders of real image files: every kind of file, labels, splits, the cache, large images."""

import gc
import itertools
import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cluster
import reconstruct
import train
from mlx_gmvae.clustering.prepare import prepare_classifier
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data import depth, image_folder, mapped
from mlx_gmvae.data.arrangement import arrange
from mlx_gmvae.data.batches import as_float
from mlx_gmvae.data.dataset_spec import DatasetSpec
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.images import Rows, joined
from mlx_gmvae.data.splits import Dataset, Splits, held_out_rows
from mlx_gmvae.errors import InputError
from mlx_gmvae.evaluation.metrics import mse, ssim
from mlx_gmvae.evaluation.scores import reconstruct as reconstructions
from mlx_gmvae.evaluation.scores import reconstruction_scores
from mlx_gmvae.models import build_model
from mlx_gmvae.runs.checkpoint import load_model
from mlx_gmvae.training import memory
from mlx_gmvae.training.api import new_trainer
from mlx_gmvae.training.defaults import for_set_size

import mlx.core as mx
import numpy as np
import pytest
from pictures import FLOWER, PHOTO, write
from PIL import Image

pytestmark = pytest.mark.usefixtures("undrawn")


def pieces(num: int, side: int = 16) -> list[Image.Image]:
    """Different real squares of a photograph."""
    corners = itertools.product(range(0, 427 - side, side), range(0, 640 - side, side))
    some = list(corners)[::7][:num]
    return [FLOWER.crop((left, top, left + side, top + side)) for top, left in some]


def load(folder: Path, **options: Any) -> Splits:
    return load_dataset(str(folder), folder.parent / "cache", **options)


def cached(folder: Path) -> list[Path]:
    return sorted((folder.parent / "cache" / "folders").glob("*.npy"))


def test_one_pixel_and_grey_sets(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "dots", f"{number}.png", Image.new("L", (1, 1), 60 * number))
        write(tmp_path / "mixed", f"{number}.png", PHOTO.convert("L"))
    assert load(tmp_path / "dots").train.image_shape == (1, 1, 1)
    write(tmp_path / "mixed", "colour.png")
    splits = load(tmp_path / "mixed")
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
    splits = load(folder)
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
        found = load(folder).named("all")
        assert found.bits == 12
        assert found.notes == (depth.describe(str(folder), 12),)
        assert "values of 12 bits in images of 16 bits, scaled by 4095" in found.notes[0]
        assert found.images[np.argsort(found.index), 0, 0, 0].tolist() == [249, 62, 19, 77]
    full = load(folder, bits=16).named("all")
    assert full.images.max() == 77 and full.bits == 16 and not full.notes
    write(folder, "4.tif", Image.fromarray(np.full((8, 8), 65535, np.uint16)))
    assert load(folder).train.bits == 16 == load(folder, bits=12).train.bits
    assert len(cached(folder)) == 1


def test_pages_that_are_not_looked_at_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "stacks"
    first, *others = pieces(5)
    write(folder, "stack.tif", first, save_all=True, append_images=others)
    write(folder, "one.tif", first)
    for _ in range(2):
        (note,) = load(folder).train.notes
        assert "of a TIFF file with 5 pages only the first page is read" in note and ".npy" in note


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "pgm", "ppm", "pnm", "pbm", "jp2", "apng"])
def test_other_suffixes_of_pictures(suffix: str, tmp_path: Path) -> None:
    grey = {"pgm": "L", "pbm": "1"}.get(suffix, "RGB")
    for number, piece in enumerate(pieces(2)):
        write(tmp_path / "photos", f"{number}.{suffix}", piece.convert(grey))
    splits = load(tmp_path / "photos")
    assert [len(part) for part in splits] == [1, 1] and not splits.train.notes


def test_nothing_readable_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(InputError, match=r"no images \(.jpg"):
        load(folder)
    (folder / "a.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"0 readable images; at least 2.*a.jpg \(empty\)"):
        load(folder)


def test_mixed_sizes_get_one_that_is_proposed(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(6):
        write(folder, f"{number}.png", PHOTO if number < 4 else PHOTO.resize((20, 10)))
    splits = load(folder)
    assert splits.train.image_shape == (32, 48, 3)
    assert splits.train.fitted == (
        f"{folder}: images of 2 sizes (48 x 32 in 4, 20 x 10 in 2); the middle of each is cropped "
        "and resized to 48 x 32 (width x height; --image_size H W chooses another size)"
    )
    everything = splits.named("all")
    (same,) = everything.images[everything.index == 0]
    np.testing.assert_array_equal(same, np.asarray(PHOTO))
    assert len(cached(folder)) == 1
    again = load(folder, image_size=(32, 48))  # which was decoded already
    assert len(cached(folder)) == 1 and "--image_size" not in again.train.fitted
    assert load(folder, image_size=(12, 18)).train.image_shape == (12, 18, 3)


def labelled(folder: Path, classes: str = "cat dog", num: int = 10) -> Path:
    for name in classes.split():
        for number, piece in enumerate(pieces(num)):
            write(folder / name / "deeper", f"{number:02d}.png", piece)
    return folder


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "pets", "dog cat fox")
    splits = load(folder)
    assert splits.train.class_names == ("cat", "dog", "fox")
    assert (len(splits.train), len(splits.test)) == (24, 6)
    for part in splits:
        assert part.labels is not None
        for image, label, index in zip(part.images, part.labels, part.index, strict=True):
            path = Path(part.files[index])
            assert path.parent.parent.name == part.class_names[label]
            np.testing.assert_array_equal(image, np.asarray(Image.open(path)))
    some = load(folder, classes=["dog", "fox"])
    assert some.train.labels is not None and set(some.train.labels) == {1, 2}
    # A class keeps its division into training and test images.
    assert set(some.test.index) == set(splits.test.index[splits.test.labels != 0])
    with pytest.raises(InputError, match="no class cow; it has cat, dog, fox"):
        load(folder, classes=["cow"])
    write(folder, "loose.png", pieces(1)[0])
    assert load(folder).train.labels is None
    with pytest.raises(InputError, match="no labels"):
        load(folder, classes=["cat"])


def test_train_and_test_folders_are_splits(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    labelled(folder / "Train", num=5)
    labelled(folder / "TEST", num=3)
    train_part, test_part = load(folder)
    assert (len(train_part), len(test_part)) == (10, 6)
    assert train_part.class_names == test_part.class_names == ("cat", "dog")
    assert all("/TEST/" in test_part.files[index] for index in test_part.index)
    labelled(folder / "val", num=3)
    with pytest.raises(InputError, match="TEST, Train, val, but only two splits"):
        load(folder)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Test"),
        ("Training", "Testing"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("training_set/training_set", "test_set/test_set"),
        ("train", "validate"),
        ("TRAIN", "DEV"),
        ("train", "eval"),
        ("train2017", "val2017"),
        ("trainset", "test_images"),
        ("fruits-360/Training", "fruits-360/Test"),
    ],
)
def test_splits_by_their_usual_names(train: str, test: str) -> None:
    names = [f"{train}/{each}/a.png" for each in ("cat", "dog")] + [f"{test}/dog/b.png"]
    found = arrange(names)
    assert found.is_test.tolist() == [False, False, True]
    assert found.class_names == ("cat", "dog") and found.labels is not None
    assert found.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("seg_train/cat seg_test/cat seg_pred", "splits .seg_test, seg_train. and .*seg_pred"),
        ("train/cat train/dog unlabeled", "splits .train. and other folders .unlabeled.; move"),
        ("Training/a Test/a papers", "splits .Test, Training. and other folders .*papers"),
        ("train val .", "not in the folder of a split .train, val.; move"),
    ],
)
def test_what_lies_beside_the_splits_is_named(folders: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        arrange([f"{folder}/{number}.png".removeprefix("./")
                 for folder in folders.split() for number in range(2)])  # fmt: skip


@pytest.mark.parametrize(
    "folders", ["bus car train", "test_tube train", "test val", "exam training"]
)
def test_classes_may_be_called_like_splits(folders: str) -> None:
    found = arrange([f"{folder}/{number}.png" for folder in folders.split() for number in range(9)])
    assert found.class_names == tuple(folders.split())


def test_labels_may_be_ignored(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "pets", "cat dog fox", num=4)
    splits = load(folder)
    assert splits.train.notes == (
        f"3 sub-folders of {folder} are taken as classes, for the scores only; --no_labels ignores "
        "them",
    )
    plain = load(folder, labels=False)
    for one, other in zip(splits, plain, strict=True):
        assert other.labels is None and not other.class_names and not other.notes
        np.testing.assert_array_equal(one.images, other.images)
    assert len(cached(folder)) == 1 and not load(folder, classes=["cat", "fox"]).train.notes


def test_a_run_without_labels_stays_without_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resumed, clustered and reconstructed by default; files of before know of no such thing."""
    folder, model = labelled(tmp_path / "pets"), tmp_path / "run/model.npz"
    options = f"--dataset {folder} --data_dir {tmp_path}/cache --outdir {tmp_path}/run --epochs 1"
    options += " --K 2 --arch mlp --hidden_dims 8 --latent_dims 2 --no_labels"
    assert train.main(options.split()) == 0
    assert load_model(model).data["labels"] is False
    cache = f"--data_dir {tmp_path}/cache"
    assert train.main(f"--resume {tmp_path}/run --epochs 2 {cache}".split()) == 0
    assert train.main(f"--resume {tmp_path}/run --epochs 3 --no_labels {cache}".split()) == 2
    assert "--no_labels cannot change" in capsys.readouterr().err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    command = f"--model {model} {cache} --outdir {tmp_path}/clusters"
    assert cluster.main(command.split()) == 0
    again = json.loads((tmp_path / "clusters/metrics.json").read_text())
    assert "clustering" not in metrics and "clustering" not in again
    assert reconstruct.main(f"--model {model} {cache} --outdir {tmp_path}/r".split()) == 0
    header = (tmp_path / "r/train_reconstructions.csv").read_text(encoding="utf-8-sig").splitlines()
    assert "label" not in header[0]
    assert "sub-folders" not in capsys.readouterr().err
    assert cluster.main([*command.split(), "--labels"]) == 0
    assert "2 sub-folders of" in capsys.readouterr().err
    assert "clustering" in json.loads((tmp_path / "clusters/metrics.json").read_text())
    old = {"dataset": str(folder), "path": str(folder), "classes": None, "fit": "crop"}
    assert DatasetSpec.from_dict(old, "old").labels and DatasetSpec.from_dict(old, "old").bits == 16
    with pytest.raises(InputError, match="does not name its training images"):
        DatasetSpec.from_dict(old | {"labels": "no"}, "old")


def test_one_sub_folder_is_no_class(tmp_path: Path) -> None:
    assert load(labelled(tmp_path / "pets", "cat")).train.labels is None


def test_both_splits_are_views_of_one_memory_map(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "pets")
    splits = load(folder)
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
    before = load(folder)
    (array,) = cached(folder)
    written = array.stat().st_mtime_ns
    np.testing.assert_array_equal(load(folder).test.images, before.test.images)
    assert [array] == cached(folder) and array.stat().st_mtime_ns == written
    load(folder, image_size=(5, 5))
    assert len(cached(folder)) == 2  # other options, the same files: both stay
    changed = write(folder / "cat" / "deeper", "03.png", Image.new("RGB", (16, 16), "red"))
    after = load(folder).named("all")
    assert len(cached(folder)) == 1 and not array.exists()
    row = after.files.index(str(changed))
    assert (after.images[after.index == row] == [255, 0, 0]).all()
    os.utime(changed, ns=(1, 1))
    load(folder)
    assert len(cached(folder)) == 1
    cached(folder)[0].write_bytes(b"damaged")
    np.testing.assert_array_equal(load(folder).named("all").images, after.images)
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
        load(folder)
    assert not list((tmp_path / "cache" / "folders").iterdir())


def test_folders_may_be_links_even_in_circles(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "pets")
    (folder / "cat" / "round").symlink_to(folder)
    outside = labelled(tmp_path / "more", "fox", num=3)
    (folder / "fox").symlink_to(outside / "fox")
    assert len(load(folder).named("all")) == 23


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


def test_scores_of_batches_are_those_of_the_whole(
    small_images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(ModelConfig(model="vae", image_size=(9, 6), channels=3))
    found = reconstructions(model, small_images)
    originals = np.array(as_float(small_images))
    whole = (mse(originals, found), ssim(originals, found))
    monkeypatch.setattr("mlx_gmvae.data.batches.BATCH_PIXELS", 10 * 9 * 6 * 3)
    for one, other in zip(reconstruction_scores(model, small_images), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_default_batches_fit_the_image_size() -> None:
    assert [memory.fitting_batch((side, side)) for side in (28, 32, 512, 4096)] == [
        2048,
        2048,
        8,
        2,
    ]
    images = np.empty((3000, 512, 512, 3), np.uint8)  # never touched, so never in memory
    dataset = Dataset("large", images, None, np.arange(3000))
    assert for_set_size(TrainConfig(), dataset, set())[0].batchsize == 8
    assert for_set_size(TrainConfig(batchsize=64), dataset, {"batchsize"})[0].batchsize == 64


@pytest.mark.on_cpu("on CUDA convolutions take memory of their own")
@pytest.mark.parametrize(
    ("side", "model", "classifier"),
    [(64, "gmvae", "conv"), (40, "gmvae", "patches"), (96, "vae", "conv")],
)
def test_estimated_memory_is_that_of_a_step_within_thirty_percent(
    side: int, model: str, classifier: str
) -> None:

    gc.collect()
    others = mx.get_active_memory()  # what other tests left
    config = ModelConfig(model=model, classifier=classifier, image_size=(side, side), channels=3)
    network = build_model(config)
    images = np.random.default_rng(0).integers(0, 256, (32, side, side, 3), dtype=np.uint8)
    training = TrainConfig(epochs=1, batchsize=32, pair_weight=float(model == "gmvae"))
    trainer = new_trainer(network, images, training)
    prepare_classifier(network, images)  # again as it trains, in less memory than a step
    mx.reset_peak_memory()
    list(trainer.run())
    parameters = sum(value.size for value in network.arrays().values())
    estimate = memory.step_bytes(config, training, 32, parameters)
    assert 0.7 < (mx.get_peak_memory() - others) / estimate < 1.3


def test_large_photographs_train_without_downsampling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "large"
    photo = FLOWER.crop((100, 50, 300, 200))
    for number in range(3):
        write(folder, f"{number}.jpg", photo.rotate(number), quality=90)
    options = f"--dataset {folder} --data_dir {tmp_path}/cache --epochs 1 --latent_dims 4 --K 1"
    options += f" --max_filters 8 --save_every 5 --batchsize 2 --outdir {tmp_path}/run"
    options += " --classifier conv --descriptor hog"
    assert train.main(options.split()) == 0
    output = capsys.readouterr().out
    assert "memory: about " in output and "read from disk as needed" in output
    assert load_model(tmp_path / "run/model.npz").model.config.image_size == (150, 200)


def test_real_photographs_train_resume_and_cluster(
    data_dir: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archives = list(Path(data_dir).glob("cifar10-jpg/*.zip"))
    if not archives:
        pytest.skip("there is no cifar10-jpg/*.zip beside mnist/")
    folder = tmp_path / "photos"
    with zipfile.ZipFile(archives[0]) as archive:
        names = [name for name in sorted(archive.namelist()) if name.endswith(".jpg")]
        archive.extractall(folder, names[::120])
    cache = f"--data_dir {tmp_path}/cache"
    options = (
        f"--dataset {folder} --epochs 1 --latent_dims 4 --K 4 --outdir {tmp_path}/run {cache} "
        "--hidden_dims 32 --num_layers 2 --max_filters 16"
    )
    assert train.main(options.split()) == 0
    assert f"data: {folder}, 83 training and 17 test images of (32, 32, 3)" in (
        capsys.readouterr().out
    )
    assert train.main(f"--resume {tmp_path}/run --epochs 2 {cache}".split()) == 0
    model = f"--model {tmp_path}/run/model.npz {cache} --outdir {tmp_path}"
    assert cluster.main(f"{model}/clusters --split all".split()) == 0
    assert reconstruct.main(f"{model}/r --rec_testdata".split()) == 0
    metrics = json.loads((tmp_path / "clusters/metrics.json").read_text())
    assert metrics["images"] == 100 and "clustering" in metrics
    assert len(cached(folder)) == 1


def test_two_that_decode_one_folder_at_a_time_read_the_same(tmp_path: Path) -> None:
    for number, image in enumerate(pieces(40)):
        write(tmp_path / "photos", f"{number}.png", image)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load(tmp_path / "photos"), range(4)))
    for splits in found:
        np.testing.assert_array_equal(splits.train.images, found[0].train.images)
    assert len(cached(tmp_path / "photos")) == 1
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
    splits = load(photos)
    assert sum(map(len, splits)) == 8
    (note,) = splits.train.notes
    assert "2 of 10 images" in note and "3.png" in note and "5.png" in note
    monkeypatch.undo()
    again = load(photos)
    assert sum(map(len, again)) == 9 and not again.train.notes
    assert len(cached(photos)) == 1
