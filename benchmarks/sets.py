"""Image sets of the benchmarks, made from the files in DIR in formats that train.py reads."""

import io
import struct
import sys
import zipfile
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

LONG_TAIL = 0.1  # share of images that the last class keeps; the first keeps all
INVERTED = 0.1  # share of the framed letters that are inverted
# Numbers of MNIST images, sides in pixels, and draws.
SMALL_MNIST = list(product((300, 1000, 2000, 5000), (16, 28), range(5)))


def prepare(data_dir: Path, workdir: Path, needed: str) -> dict[str, Path]:
    """Make the sets whose names are in braces in `needed`; return their paths by name."""
    makers = {
        "frey": frey,
        "photos": photos,
        "photo_folder": photo_folder,
        "efficientnet": efficientnet_features,
        "letters": letters,
        "letters_framed": framed_letters,
        "letters_unequal": unequal_letters,
        "long_tail": long_tailed_mnist,
        "digits_300": digits_300,
    }
    for number, side, draw in SMALL_MNIST:
        makers[f"mnist_{number}_{side}_{draw}"] = partial(small_mnist, number, side, draw)
    for draw in range(5):
        makers[f"photos_1000_{draw}"] = partial(some_photos, 1000, draw)
        makers[f"efficientnet_1000_{draw}"] = partial(some_features, 1000, draw)
    workdir.mkdir(parents=True, exist_ok=True)
    return {
        name: make(data_dir, workdir) for name, make in makers.items() if "{" + name + "}" in needed
    }


def only(data_dir: Path, pattern: str) -> Path:
    """Return the one file below `data_dir` that matches; end the program if there is none."""
    found = sorted(data_dir.rglob(pattern))
    if len(found) != 1:
        number = f"{len(found)} files" if found else "no file"
        sys.exit(f"{data_dir} has {number} {pattern}; one is needed for this set of images")
    return found[0]


def frey(data_dir: Path, workdir: Path) -> Path:
    """Make a set of 1,965 faces of 28x20 from frey_rawface.mat."""
    path = workdir / "frey.npz"
    if not path.exists():
        from scipy.io import loadmat

        source = only(data_dir, "frey_rawface.mat")
        np.savez(path, images=loadmat(source)["ff"].T.reshape(-1, 28, 20))
    return path


def photos(data_dir: Path, workdir: Path) -> Path:
    """Make a set of colour photographs from a zip of class folders."""
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


def photo_folder(data_dir: Path, workdir: Path) -> Path:
    """Extract the zip of photographs to a folder with train/ and test/."""
    folder = workdir / "photos"
    if not folder.exists():
        with zipfile.ZipFile(only(data_dir, "*jpg*.zip")) as archive:
            archive.extractall(folder)
    return folder


def some_photos(number: int, draw: int, data_dir: Path, workdir: Path) -> Path:
    """Make a folder of `number` random photographs with train/ (4/5) and test/."""
    folder = workdir / f"photos-{number}-{draw}"
    if not folder.exists():
        source = photo_folder(data_dir, workdir)
        for name, split in drawn_photos(number, draw, source).items():
            place = folder / split / name.split("/")[1] / name.replace("/", "-")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.hardlink_to(source / name)
    return folder


def drawn_photos(number: int, draw: int, source: Path) -> dict[str, str]:
    """Return names of random photographs below `source`, each with "train" or "test"."""
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*.jpg"))
    rows = np.random.default_rng(draw).permutation(len(names))[:number]
    splits = ("train",) * (number * 4 // 5) + ("test",) * (number - number * 4 // 5)
    return {names[row]: split for row, split in zip(rows, splits, strict=True)}


def some_features(number: int, draw: int, data_dir: Path, workdir: Path) -> Path:
    """Make the features file of `some_photos`."""
    path = workdir / f"efficientnet-{number}-{draw}.npz"
    if not path.exists():
        with np.load(efficientnet_features(data_dir, workdir)) as archive:
            features, rows = archive["features"], {n: i for i, n in enumerate(archive["files"])}
        drawn = drawn_photos(number, draw, photo_folder(data_dir, workdir))
        files = [f"{s}/{n.split('/')[1]}/{n.replace('/', '-')}" for n, s in drawn.items()]
        np.savez(path, features=features[[rows[name] for name in drawn]], files=files)
    return path


def efficientnet_features(data_dir: Path, workdir: Path) -> Path:
    """Return EfficientNet-Lite0 features of all photographs (see `encoder_features.py`)."""
    return only(data_dir, "efficientnet-lite0.npz")


def letters(data_dir: Path, workdir: Path) -> Path:
    """Return glyphs K to T of many typefaces, 28x28, unchanged."""
    return only(data_dir, "letters.npz")


def framed_letters(data_dir: Path, workdir: Path) -> Path:
    """Make letters that fill their frame of 28x28, a tenth of them inverted."""
    path = workdir / "letters-framed.npz"
    if not path.exists():
        with np.load(letters(data_dir, workdir)) as archive:
            images, labels = archive["images"], archive["labels"]
        framed = np.stack([stretched(cropped(image), 28) for image in images])
        is_inverted = np.random.default_rng(0).random(len(framed)) < INVERTED
        framed[is_inverted] = 255 - framed[is_inverted]
        np.savez(path, images=framed, labels=labels)
    return path


def unequal_letters(data_dir: Path, workdir: Path) -> Path:
    """Make letters of unequal classes: class c keeps a share of 0.1^(c/9)."""
    path = workdir / "letters-unequal.npz"
    if not path.exists():
        with np.load(letters(data_dir, workdir)) as archive:
            images, labels = archive["images"], archive["labels"]
        rows = long_tailed(labels)
        np.savez(path, images=images[rows], labels=labels[rows])
    return path


def small_mnist(number: int, side: int, draw: int, data_dir: Path, workdir: Path) -> Path:
    """Make a set of `number` random MNIST training images, at 28x28 or 16x16."""
    path = workdir / f"mnist-{number}-{side}-{draw}.npz"
    if not path.exists():
        from mlx_gmvae.data.datasets import load_dataset

        train, _ = load_dataset("mnist", data_dir)
        rows = np.random.default_rng(draw).permutation(len(train.images))[:number]
        chosen = train.take(rows)
        assert chosen.labels is not None
        images = chosen.images[..., 0]
        if side != images.shape[1]:
            images = np.stack([stretched(image, side) for image in images])
        np.savez(path, images=images, labels=chosen.labels)
    return path


def digits_300(data_dir: Path, workdir: Path) -> Path:
    """Make a set of 300 of scikit-learn's 1,797 digits of 8x8."""
    path = workdir / "digits-300.npz"
    if not path.exists():
        from sklearn.datasets import load_digits

        found = load_digits()
        rows = np.random.default_rng(0).permutation(len(found.target))[:300]
        images = np.round(found.images[rows] * (255 / 16)).astype(np.uint8)
        np.savez(path, images=images, labels=found.target[rows])
    return path


def cropped(image: np.ndarray) -> np.ndarray:
    """Crop a drawing (H, W) on black to its bounding box."""
    covered = image > 32
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    if not len(rows):
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def stretched(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an image (H, W) to side x side."""
    from PIL import Image

    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))


def long_tailed(labels: np.ndarray) -> np.ndarray:
    """Return sorted rows of which class c, of ten, keeps a share of 0.1^(c/9)."""
    rng, kept = np.random.default_rng(0), []
    for number, label in enumerate(np.unique(labels)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        kept.append(rows[: round(len(rows) * LONG_TAIL ** (number / 9))])
    return np.sort(np.concatenate(kept))


def long_tailed_mnist(data_dir: Path, workdir: Path) -> Path:
    """Write MNIST as IDX files; class c keeps a share of 0.1^(c/9) of its training images.

    24,840 remain, from 5,923 zeros to 595 nines; the test images are unchanged.
    """
    folder = workdir / "mnist-long-tail"
    if folder.exists():
        return folder
    from mlx_gmvae.data.datasets import load_dataset

    train, test = load_dataset("mnist", data_dir)
    assert train.labels is not None
    train = train.take(long_tailed(train.labels))
    folder.mkdir()
    for split, dataset in (("train", train), ("t10k", test)):
        assert dataset.labels is not None
        write_idx(folder / f"{split}-images-idx3-ubyte", dataset.images[..., 0])
        write_idx(folder / f"{split}-labels-idx1-ubyte", dataset.labels)
    return folder


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write uint8 values in the format of the original MNIST files."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())
