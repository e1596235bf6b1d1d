"""MNIST and its relatives: where they are published, what they must contain, where to keep them."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .download import DownloadError, fetch, sha256
from .idx import parse_idx, read_bytes

MIRROR_VARIABLE = "MLX_GMVAE_MIRROR"
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class Published(NamedTuple):
    """Mirrors of one set and the SHA-256 of each file, decompressed or as published (.gz)."""

    mirrors: tuple[str, ...]
    digests: dict[str, str]
    digest_of: str = "content"  # or "archive"


PUBLISHED = {
    "mnist": Published(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        digests={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion-mnist": Published(
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
        digests={
            "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        digest_of="archive",
    ),
    "kmnist": Published(
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        digests={
            "train-images-idx3-ubyte": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "train-labels-idx1-ubyte": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "t10k-images-idx3-ubyte": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "t10k-labels-idx1-ubyte": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        },
        digest_of="archive",
    ),
}


def default_data_dir() -> Path:
    """Where downloads are kept: the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mlx_gmvae"


def load_published(name: str, data_dir: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{"train": (images, labels), "test": ...} as uint8 arrays (N, 28, 28) and (N,).

    Files are looked for in `data_dir` and `data_dir/name`, plain or .gz, and downloaded into
    the latter when absent. Raises DownloadError if they cannot be had, InputError if a file
    there is not the published one.
    """
    arrays = {}
    for split, (images, labels) in FILES.items():
        arrays[split] = (
            _load_file(name, images, data_dir),
            _load_file(name, labels, data_dir),
        )
    return arrays


def _load_file(name: str, file_name: str, data_dir: Path) -> np.ndarray:
    path = _find(name, file_name, data_dir)
    content = read_bytes(path)
    _verify(name, file_name, path, content)
    return parse_idx(content, str(path))


def _find(name: str, file_name: str, data_dir: Path) -> Path:
    own_folder = data_dir / name
    places = [own_folder, data_dir]
    for folder in places:
        for path in (folder / file_name, folder / f"{file_name}.gz"):
            # Relatives of MNIST share its file names: a file in the common folder is this
            # set's only if its content says so.
            if path.is_file() and (folder == own_folder or _is_published(name, file_name, path)):
                return path
    path = own_folder / f"{file_name}.gz"
    own_mirror = os.environ.get(MIRROR_VARIABLE)
    bases = [own_mirror.rstrip("/") + "/"] if own_mirror else PUBLISHED[name].mirrors
    try:
        fetch([f"{base}{file_name}.gz" for base in bases], path)
    except OSError as error:
        raise InputError(f"cannot write to {path.parent}: {error.strerror}") from None
    try:
        _verify(name, file_name, path, read_bytes(path))
    except InputError:
        path.unlink()  # a portal's login page must not be taken for data next time
        raise DownloadError(
            f"what was downloaded as {path.name} is not the published file"
        ) from None
    return path


def _is_published(name: str, file_name: str, path: Path) -> bool:
    try:
        _verify(name, file_name, path, read_bytes(path))
    except InputError:
        return False
    return True


def _verify(name: str, file_name: str, path: Path, content: bytes) -> None:
    published = PUBLISHED[name]
    if published.digest_of == "archive":
        if path.suffix != ".gz":
            return  # only the archive's digest is published; parsing checks the structure
        content = path.read_bytes()
    if sha256(content) != published.digests[file_name]:
        raise InputError(
            f"{path} is not the published {name} file (wrong SHA-256); delete it to download it "
            "again, or name its folder as --dataset to use it as your own data"
        )
