"""Kinds of input files: a good file of each, and the function that reads it.

A reader returns what it read as arrays by name. Any exception but InputError counts as a failure.
"""

import dataclasses
import io
import json
import random
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from mlx_gmvae.cli.options import _read_config
from mlx_gmvae.clustering.features import load_features
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data import published
from mlx_gmvae.data.dataset_spec import DatasetSpec
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.decode import decode, in_threads, read_header
from mlx_gmvae.data.downloads import Downloads, sha256
from mlx_gmvae.data.idx import read_idx
from mlx_gmvae.data.image_folder import Wanted, load_image_folder
from mlx_gmvae.data.published import CIFAR_FOLDER, CIFAR_TRAIN
from mlx_gmvae.data.splits import Splits, hold_out, make_dataset
from mlx_gmvae.errors import InputError
from mlx_gmvae.models import build_model
from mlx_gmvae.runs.build_and_load import load
from mlx_gmvae.runs.checkpoint import save_model
from mlx_gmvae.runs.run_folder import RunFolder
from mlx_gmvae.training.api import new_trainer
from mlx_gmvae.training.trainer import Trainer

import mlx.core as mx
import numpy as np
import soak_mutations as mutate
from PIL import Image

Arrays = dict[str, np.ndarray]
SIZE = 8  # pixels a side, so that many images need little memory
MODEL = ModelConfig(arch="mlp", image_size=(SIZE, SIZE), hidden_dims=8, K=3, latent_dims=2)
TRAINING = TrainConfig(epochs=2, batchsize=8, neighbours=2, heads=2, pair_weight=1.0)


class Kind(NamedTuple):
    """A kind of file: its name, how to make a good one, its reader and its mutations.

    If `is_checked`, flipped bits must be detected: what is read must equal what was written.
    """

    file: str
    make: Callable[[random.Random], bytes]
    read: Callable[[Path], Arrays]
    lies: Sequence[mutate.Mutation]
    is_checked: bool = False


@cache
def images() -> np.ndarray:
    """Return 24 real digits of 8x8 pixels."""
    return np.asarray(load_dataset("digits").test.images[:24])


@cache
def splits() -> Splits:
    return hold_out(make_dataset("here", images()))


def model(suffix: str) -> Callable[[random.Random], bytes]:
    @cache
    def content() -> bytes:
        with _folder() as folder:
            save_model(
                folder / f"m{suffix}",
                build_model(MODEL),
                data={"dataset": "digits"},
                metrics={"clustering": {"accuracy": 0.5}},
                training=TRAINING.to_dict(),
            )
            return (folder / f"m{suffix}").read_bytes()

    return lambda rng: content()


def read_model(path: Path) -> Arrays:
    found = load(path)
    assert len(repr(found)) < 100_000
    if found.config.image_shape == MODEL.image_shape:
        found.encode(images()[:2])
    return {name: np.array(value) for name, value in found.network.arrays().items()}


@cache
def trained() -> Trainer:
    mx.random.seed(0)
    return new_trainer(build_model(MODEL), splits().train.images, TRAINING)


def state(rng: random.Random) -> bytes:
    @cache
    def content() -> bytes:
        list(trained().run())
        with _folder() as folder:
            RunFolder(folder).save_state(trained(), DatasetSpec("digits"), {})
            return (folder / "state.npz").read_bytes()

    return content()


def read_state(path: Path) -> Arrays:
    folder, saved = RunFolder.open(str(path.parent))
    trainer = trained()
    if (saved.model, saved.training) != (MODEL, TRAINING):
        if saved.model.image_shape != MODEL.image_shape:
            raise InputError("the images are not of that size")
        trainer = new_trainer(build_model(saved.model), splits().train.images, saved.training)
    folder.restore(trainer, saved)
    return {name: np.array(value) for name, value in trainer.state()[0].items()}


def array_set(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    labels = np.arange(24, dtype=rng.choice(("u1", "i8"))) % 3
    pixels = images() if rng.random() < 0.5 else (images() / 255).astype(rng.choice(("f4", "f8")))
    save = rng.choice((np.savez, np.savez_compressed))
    save(buffer, images=pixels, labels=labels, test_images=pixels[:3], test_labels=labels[:3])
    return buffer.getvalue()


def read_set(path: Path) -> Arrays:
    found = load_dataset(str(path))
    for part in found:
        assert part.images.dtype == np.uint8 and part.images.ndim == 4
        if part.labels is not None:
            assert part.labels.min(initial=0) >= 0
            assert len(part.label_names) == len(part)
    return {"train": found.train.images, "test": found.test.images}


def one_array(rng: random.Random) -> bytes:
    return mutate.npy(images() if rng.random() < 0.5 else images() / 255.0)


def features(rng: random.Random) -> bytes:
    values = np.random.default_rng(0).normal(size=(24, 5)).astype(rng.choice(("f4", "f8")))
    if rng.random() < 0.5:
        return mutate.npy(values)
    buffer = io.BytesIO()
    np.savez(buffer, features=values, files=np.array([str(n) for n in range(24)]))
    return buffer.getvalue()


def read_features(path: Path) -> Arrays:
    found = load_features(str(path), splits()).named("all").features
    assert found is not None
    assert np.isfinite(found).all() and found.dtype == np.float32
    return {"features": found}


def idx(rng: random.Random) -> bytes:
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (24, SIZE, SIZE))
    return header + images().tobytes()


def idx_gz(rng: random.Random) -> bytes:
    return mutate.gzip.compress(idx(rng), 1)


def read_idx_file(path: Path) -> Arrays:
    return {"images": read_idx(path)}


def cifar(rng: random.Random) -> bytes:
    return b"".join(bytes([n % 10]) + bytes(range(256)) * 12 for n in range(3))


def read_cifar_folder(path: Path) -> Arrays:
    """Read the file among five good ones in the folder of the published archive."""
    folder = path.parent / CIFAR_FOLDER
    if not folder.is_dir():
        folder.mkdir()
        for name in (*CIFAR_TRAIN, published.CIFAR_TEST):
            (folder / name).write_bytes(cifar(random.Random()))
    (folder / CIFAR_TRAIN[2]).write_bytes(path.read_bytes())
    found = load_dataset("cifar-10", path.parent)
    return {"train": found.train.images}


@cache
def _cifar_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name in (*CIFAR_TRAIN, published.CIFAR_TEST):
            member = tarfile.TarInfo(f"{CIFAR_FOLDER}/{name}")
            member.size = len(cifar(random.Random()))
            archive.addfile(member, io.BytesIO(cifar(random.Random())))
    return buffer.getvalue()


@cache
def _frey_file() -> bytes:
    from scipy.io import savemat

    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (560, 12), dtype=np.uint8)
    savemat(buffer, {"ff": pixels}, do_compression=True)
    return buffer.getvalue()


def read_as_published(name: str) -> Callable[[Path], Arrays]:
    """Return a reader of a published set whose expected digest is that of the file."""

    def read(path: Path) -> Arrays:
        entry = published.PUBLISHED[name]
        (file,) = entry.digests
        entry = entry._replace(digests={file: sha256(path.read_bytes())})
        (path.parent / file).write_bytes(path.read_bytes())
        content = entry.read(Downloads(name, entry, path.parent))
        return {"train": make_dataset(name, *content.train).images}

    return read


def picture(rng: random.Random) -> bytes:
    """Return a file of a random format, mode and orientation that Pillow writes."""
    side = rng.choice((1, 7, 30))
    noise = np.random.default_rng(rng.randrange(9)).integers(0, 256, (side, 24, 3), np.uint8)
    opened = Image.fromarray(noise)
    modes = {
        "JPEG": "L RGB CMYK", "PNG": "1 L LA P RGB RGBA I;16", "GIF": "P L",
        "WEBP": "RGB RGBA", "TIFF": "1 L P RGB RGBA CMYK I;16 F", "BMP": "1 L P RGB",
    }  # fmt: skip
    kind = rng.choice(list(modes))
    mode = rng.choice(modes[kind].split())
    if mode == "I;16":
        opened = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    elif mode == "F":
        opened = Image.fromarray(noise[..., 0].astype(np.float32) / 255)
    else:
        opened = opened.convert(mode)
    buffer, options = io.BytesIO(), {}
    if kind in ("JPEG", "PNG", "WEBP", "TIFF") and rng.random() < 0.5:
        exif = Image.Exif()
        exif[0x0112] = rng.choice((1, 3, 6, 8, 1 if kind == "TIFF" else 77))
        exif[0x010E] = "x" * rng.choice((3, 5000))
        options["exif"] = exif
    if kind in ("GIF", "WEBP", "PNG", "TIFF") and mode != "I;16" and rng.random() < 0.3:
        options |= {"save_all": True, "append_images": [opened.copy()] * 3}
    if kind == "TIFF" and mode not in ("1", "CMYK") and rng.random() < 0.5:
        options["compression"] = rng.choice(("tiff_lzw", "tiff_deflate", "packbits"))
    opened.save(buffer, kind, **options)
    return buffer.getvalue()


def read_picture(path: Path) -> Arrays:
    """Read a picture as a folder's files are read: the header first, then the pixels."""
    (header,) = in_threads(read_header, [str(path)], 1, "")
    if isinstance(header, str):
        raise InputError(header)
    channels = 1 if header.is_grey else 3
    decode_one = partial(decode, channels=channels, size=(SIZE, SIZE), how="pad")
    (pixels,) = in_threads(decode_one, [str(path)], 1, "")
    if isinstance(pixels, str):
        raise InputError(pixels)
    assert pixels.dtype == np.uint8 and pixels.shape[:2] == (SIZE, SIZE)
    return {"pixels": pixels}


def read_folder(path: Path) -> Arrays:
    """Read the file among three good ones of a folder, through the cache of decoded images."""
    folder = path.parent / "pictures"
    if not folder.is_dir():
        folder.mkdir()
        for number, image in enumerate(images()[:3]):
            Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    (folder / path.name).write_bytes(path.read_bytes())
    found = load_image_folder(folder, path.parent / "kept", Wanted()).named("all")
    assert len(found) + sum("cannot be read" in note for note in found.notes) == 4
    return {"images": np.array(found.images)}


def config(rng: random.Random) -> bytes:
    return json.dumps(MODEL.to_dict()).encode()


def read_config(path: Path) -> Arrays:
    """Read a --config file, up to the parameter shapes of its model."""
    found = build_model(_read_config(str(path)))
    assert dataclasses.asdict(found.config)
    return {name: np.array(value.shape) for name, value in found.arrays().items()}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


NPZ = (mutate.in_npz,) * 4
NPY = (mutate.npy_header, mutate.npy_header, mutate.numbers, mutate.pickled)
KINDS = {
    "models, .npz": Kind("m.npz", model(".npz"), read_model, NPZ, True),
    "models, .safetensors": Kind(
        "m.safetensors", model(".safetensors"), read_model, (mutate.in_safetensors,) * 4
    ),
    "training states": Kind("state.npz", state, read_state, NPZ, True),
    "sets, .npz": Kind("a.npz", array_set, read_set, NPZ),
    "sets, .npy": Kind("a.npy", one_array, read_set, NPY),
    "features": Kind("f.npy", features, read_features, (*NPY, mutate.splice)),
    "IDX": Kind("train-images-idx3-ubyte", idx, read_idx_file, (mutate.extreme,) * 2),
    "IDX, gzipped": Kind(
        "train-images-idx3-ubyte.gz", idx_gz, read_idx_file, (mutate.in_gzip,) * 3
    ),
    "CIFAR-10, batches": Kind("x.bin", cifar, read_cifar_folder, (mutate.splice,)),
    "CIFAR-10, archive": Kind(
        "x.tar.gz", lambda rng: _cifar_archive(), read_as_published("cifar-10"), ()
    ),
    "Frey faces, .mat": Kind("x.mat", lambda rng: _frey_file(), read_as_published("frey"), ()),
    "pictures": Kind("p.png", picture, read_picture, (mutate.in_png,) * 3),
    "pictures, in a folder": Kind("p.png", picture, read_folder, (mutate.in_png,) * 3),
    "configurations, .json": Kind("c.json", config, read_config, (mutate.in_json,) * 6),
}
SHARES = {"pictures": 4, "pictures, in a folder": 0.5, "models, .npz": 3, "training states": 2}
