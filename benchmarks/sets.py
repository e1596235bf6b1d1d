"""Sets of images that benchmarks make of the files in DIR, as train.py reads them."""

import io
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np

LONG_TAIL = 0.1  # of its images are left of the last class, all of the first


def prepare(data_dir: Path, workdir: Path, needed: str) -> dict[str, Path]:
    """Paths by the names that stand in braces in `needed`, an experiment's options; made once."""
    makers = {
        "frey": frey,
        "photos": photos,
        "photo_features": photo_features,
        "letters": letters,
        "long_tail": long_tailed_mnist,
    }
    workdir.mkdir(parents=True, exist_ok=True)
    return {
        name: make(data_dir, workdir) for name, make in makers.items() if "{" + name + "}" in needed
    }


def only(data_dir: Path, pattern: str) -> Path:
    """The one file of that name anywhere below; ends the program where it is not."""
    found = sorted(data_dir.rglob(pattern))
    if len(found) != 1:
        number = f"{len(found)} files" if found else "no file"
        sys.exit(f"{data_dir} has {number} {pattern}; one is needed for this set of images")
    return found[0]


def frey(data_dir: Path, workdir: Path) -> Path:
    """1,965 faces of 28x20, from frey_rawface.mat."""
    path = workdir / "frey.npz"
    if not path.exists():
        from scipy.io import loadmat

        source = only(data_dir, "frey_rawface.mat")
        np.savez(path, images=loadmat(source)["ff"].T.reshape(-1, 28, 20))
    return path


def photos(data_dir: Path, workdir: Path) -> Path:
    """Colour photographs in class folders, from a zip of them."""
    path = workdir / "photos.npz"
    if not path.exists():
        from PIL import Image

        with zipfile.ZipFile(only(data_dir, "*jpg*.zip")) as archive:
            names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))
            images = [
                np.array(Image.open(io.BytesIO(archive.read(n))).convert("RGB")) for n in names
            ]
        labels = np.array([n.split("/")[-2] for n in names])
        np.savez(path, images=np.stack(images), labels=labels)
    return path


def photo_features(data_dir: Path, workdir: Path) -> Path:
    """What the built-in descriptor says of all photographs, as if it came from elsewhere."""
    path = workdir / "photo_features.npy"
    if not path.exists():
        from mlx_gmvae.clustering.descriptors import describe

        with np.load(photos(data_dir, workdir)) as archive:
            np.save(path, describe(archive["images"], "patches"))
    return path


def letters(data_dir: Path, workdir: Path) -> Path:
    """Glyphs K to T of many typefaces, 28x28, as they are."""
    return only(data_dir, "letters.npz")


def long_tailed_mnist(data_dir: Path, workdir: Path) -> Path:
    """MNIST as IDX files of which class c keeps a share of 0.1^(c/9) of its training images.

    24,840 of them, 5,923 zeros to 595 nines; the test images stay as they are.
    """
    folder = workdir / "mnist-long-tail"
    if folder.exists():
        return folder
    from mlx_gmvae.data.datasets import load_dataset

    train, test = load_dataset("mnist", data_dir)
    rng, kept = np.random.default_rng(0), []
    for number in range(10):
        rows = rng.permutation(np.flatnonzero(train.labels == number))
        kept.append(rows[: round(len(rows) * LONG_TAIL ** (number / 9))])
    train = train.take(np.sort(np.concatenate(kept)))
    folder.mkdir()
    for split, dataset in (("train", train), ("t10k", test)):
        assert dataset.labels is not None
        write_idx(folder / f"{split}-images-idx3-ubyte", dataset.images[..., 0])
        write_idx(folder / f"{split}-labels-idx1-ubyte", dataset.labels)
    return folder


def write_idx(path: Path, array: np.ndarray) -> None:
    """uint8 values in the format of the original MNIST files."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())
