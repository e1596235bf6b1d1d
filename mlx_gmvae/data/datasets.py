"""`load_dataset`, which loads training and test images and their labels from any source."""

import dataclasses
from pathlib import Path

import numpy as np

from ..config.model import LARGEST
from ..config.record import require_choice, require_range
from ..errors import InputError, did_you_mean
from ..system.cache import cache_dir
from .arrays import array_shapes, read_arrays
from .depth import DEPTHS, bits_of, describe
from .downloads import expanded
from .fitting import FITS, Sizes, fit_images, note, with_channels
from .formats import is_image_name
from .idx import read_idx
from .image_folder import Wanted, load_image_folder
from .published import PUBLISHED, load_published
from .splits import Dataset, Splits, hold_out, make_dataset, rows_of_classes, two_sources

ARRAYS = ("images", "labels", "test_images", "test_labels")  # of an .npz
NAMES = (*PUBLISHED, "digits")


def load_dataset(
    dataset: str,
    data_dir: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
    classes: list[str] | None = None,
    fit: str = "crop",
    channels: int | None = None,
    least: int = 2,
    labels: bool = True,
    bits: int | None = None,
) -> Splits:
    """Load a dataset of images by its name or path.

    If the source has no test split, a fifth of the images is held out, always the same ones.

    Parameters
    ----------
    dataset : str
        "mnist", "fashion-mnist", "kmnist", "cifar-10" or "frey" (downloaded once, verified and
        cached), "digits" (scikit-learn's 1,797 handwritten digits), or a path: a folder of image
        files or of IDX files, an .npy array of images, or an .npz file with `images` and optional
        `labels`, `test_images` and `test_labels`.
    data_dir : str or Path, optional
        Folder for downloads and decoded images, which is searched first. By default it is
        mlx_gmvae in the user's cache folder.
    image_size : tuple of int, optional
        (H, W) to resize images to. By default they keep their size; for a folder with images of
        several sizes, one is chosen from these.
    classes : list of str, optional
        Names of the classes to keep.
    fit : {"crop", "pad", "stretch"}, default="crop"
        How to resize images.
    channels : int, optional
        1 for grey, 3 for colour. By default it is 3 unless every image is grey.
    least : int, default=2
        Smallest number of images. With 1, training or test images may be missing.
    labels : bool, default=True
        Whether to read the classes, if there are any.
    bits : int, optional
        Smallest number of bits that images with 16 bits per channel use. By default it is 8, 10,
        12, 14 or 16, according to the largest value of the source.

    Returns
    -------
    Splits
        The training and test images, `train` and `test`. Each has `images`, uint8 of shape
        (N, H, W, C), and `labels` of shape (N,), or None.

    Raises
    ------
    DownloadError
        If a published dataset is missing and cannot be downloaded.
    InputError
        If the source does not exist or cannot be read. It is a ValueError.

    Examples
    --------
    >>> load_dataset("digits").train
    Dataset('digits': 1,438 images of (8, 8, 1), 10 classes)
    """
    if not str(dataset).strip():
        raise InputError("the name of the dataset is empty; give a name or a path")
    sides = image_size or (1, 1)
    if not (isinstance(sides, (list, tuple)) and [type(side) for side in sides] == [int, int]):
        raise InputError(f"image_size is {image_size!r}; it must be two whole numbers, H and W")
    if classes and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
        raise InputError(f"classes are {classes!r}; they must be a list of names")
    for side in sides:
        require_range("image_size", side, 1, LARGEST["image_size"])
    require_choice("fit", fit, FITS)
    if bits not in (None, *DEPTHS):
        raise InputError(f"bits is {bits!r}; it must be one of {', '.join(map(str, DEPTHS))}")
    if channels not in (None, 1, 3):
        raise InputError(f"channels is {channels!r}; it must be 1 or 3")
    kept = expanded(data_dir) if data_dir else cache_dir()
    wanted = Wanted((sides[0], sides[1]) if image_size else None, channels, fit, classes, least,
                    labels, bits)  # fmt: skip
    if _is_image_folder(dataset):
        splits = load_image_folder(expanded(dataset), kept, wanted)
    else:
        splits = Splits(*(_fitted(part, wanted) for part in _load(dataset, kept, wanted)))
    if len(splits.train) + len(splits.test) < least or (least > 1 and not all(map(len, splits))):
        missing = "training" if len(splits.test) else "test"
        raise InputError(f"{dataset} has no {missing if least > 1 else 'readable'} images")
    if not labels:
        parts = (dataclasses.replace(part, labels=None, class_names=()) for part in splits)
        splits = Splits(*parts)
    return splits


def _is_image_folder(source: str) -> bool:
    path = expanded(source)
    return source not in NAMES and path.is_dir() and not _idx_files(path)


def _load(source: str, data_dir: Path, wanted: Wanted) -> Splits:
    if source in PUBLISHED:
        content = load_published(source, data_dir)
        train = make_dataset(source, *content.train, content.class_names)
        if content.test is None:
            return hold_out(train)
        return two_sources(train, make_dataset(source, *content.test, content.class_names))
    if source == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        return hold_out(make_dataset(source, images, digits.target))
    path = expanded(source)
    if path.is_dir():
        return _load_idx_folder(path, wanted.least)
    if path.suffix in (".npy", ".npz"):
        return _load_arrays(path, wanted)
    if path.exists():
        raise InputError(f"{path} is neither a folder nor an .npy or .npz file")
    raise InputError(
        f"there is no dataset or path {source!r}; choose one of {', '.join(NAMES)}, "
        f"or give a folder or an .npy or .npz file{did_you_mean(source, NAMES)}"
    )


def _load_arrays(path: Path, wanted: Wanted) -> Splits:
    try:
        arrays = read_arrays(path, ARRAYS)
        if "images" not in arrays and "" not in arrays:
            found = ", ".join(array_shapes(path)) or "nothing"
            raise InputError(f"{path} has no array named images (it has {found})")
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{path} is not a readable NumPy array file: {error}") from None
    images = arrays["images"] if "images" in arrays else arrays[""]
    bits, notes = _find_bits(str(path), [images, arrays.get("test_images")], wanted.bits)
    train = make_dataset(str(path), images, arrays.get("labels"), bits=bits)
    if "test_labels" in arrays and "test_images" not in arrays:
        notes.append(f"{path}: test_labels are not used, since there are no test_images")
    train = dataclasses.replace(train, notes=(*train.notes, *notes))
    if "test_images" not in arrays:
        return hold_out(train, wanted.least)
    test = make_dataset(str(path), arrays["test_images"], arrays.get("test_labels"), bits=bits)
    return two_sources(train, test)


def _find_bits(
    name: str, arrays: list[np.ndarray | None], least: int | None
) -> tuple[int | None, list[str]]:
    """Return how many of 16 bits the arrays use, at least `least`, and notes about it."""
    deep = [each for each in arrays if each is not None and each.dtype == np.uint16 and each.size]
    if not deep:
        return None, []
    bits = max(bits_of(max(int(each.max()) for each in deep)), least or 0)
    return bits, [] if bits in (8, 16) else [describe(name, bits)]


def _idx_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if ("idx3" in path.name or "idx4" in path.name) and not is_image_name(path.name)
    )


def _load_idx_folder(folder: Path, least: int) -> Splits:
    files = _idx_files(folder)
    names = [_part(path.name) for path in files]
    parts = {name: _read_idx_pair(path) for name, path in zip(names, files, strict=True)}
    test = parts.pop("t10k", None) or parts.pop("test", None)
    if len(parts) != 1 or len(names) != len(set(names)):
        raise InputError(f"{folder} must hold one IDX image file, or one train and one t10k file")
    (train,) = parts.values()
    return two_sources(train, test) if test else hold_out(train, least)


def _part(name: str) -> str:
    """Return the split in a file name such as emnist-letters-train-images-idx3-ubyte."""
    words = name.lower().split("-")
    return next((word for word in words if word in ("train", "test", "t10k")), words[0])


def _read_idx_pair(images_path: Path) -> Dataset:
    name = images_path.name.replace("images", "labels").replace("idx3", "idx1")
    labels_path = images_path.with_name(name.replace("idx4", "idx1"))
    has_labels = labels_path != images_path and labels_path.is_file()
    labels = read_idx(labels_path) if has_labels else None
    return make_dataset(str(images_path), read_idx(images_path), labels)


def _fitted(dataset: Dataset, wanted: Wanted) -> Dataset:
    """Return images in memory with the wanted classes, channels and size."""
    if wanted.classes:
        names, labels = dataset.class_names, dataset.labels
        dataset = dataset.take(rows_of_classes(dataset.name, wanted.classes, names, labels))
    *found, channels = dataset.image_shape
    images = with_channels(dataset.images, wanted.channels or channels)
    if wanted.size in (None, tuple(found)):
        return dataclasses.replace(dataset, images=images)
    sizes = Sizes.of([(found[0], found[1])])
    line = note(dataset.name, sizes, wanted.size, wanted.how, chosen=True)
    images = fit_images(images, wanted.size, wanted.how)
    return dataclasses.replace(dataset, images=images, fitted=line)
