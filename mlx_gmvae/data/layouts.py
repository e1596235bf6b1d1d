"""How published sets are laid out in files: four IDX files, CIFAR's archive, one MATLAB file."""

import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np

from ..errors import InputError
from .idx import parse_idx, read_raw
from .store import Content, Store

IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR_FOLDER = "cifar-10-batches-bin"  # within the archive, or beside it once extracted
CIFAR_TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]
CIFAR_TEST = "test_batch.bin"
CIFAR_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR_SHAPE = (3, 32, 32)
FREY_FILE = "frey_rawface.mat"
FREY_SIZE = (28, 20)


def read_mnist(store: Store) -> Content:
    """Images (N, 28, 28) and labels from train and t10k files."""
    train, test = (
        tuple(parse_idx(content, path) for path, content in map(store.content, names))
        for names in IDX_FILES.values()
    )
    return Content((train[0], train[1]), (test[0], test[1]))


def read_cifar(store: Store) -> Content:
    """Images (N, 32, 32, 3) and labels from an extracted folder or, without one, the archive."""
    folder = store.folder(CIFAR_FOLDER)
    if folder is not None:
        return _cifar_content(lambda name: read_raw(folder / name), str(folder))
    path, content = store.content(CIFAR_ARCHIVE)
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            members = {PurePosixPath(member.name).name: member for member in archive}

            def read(name: str) -> bytes:
                file = archive.extractfile(members[name])
                return file.read() if file else b""

            return _cifar_content(read, path)
    except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} is not an archive of CIFAR-10's binary files ({error})") from None


def _cifar_content(read: Callable[[str], bytes], name: str) -> Content:
    train = [_cifar_batch(read(batch), f"{name}: {batch}") for batch in CIFAR_TRAIN]
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    test = _cifar_batch(read(CIFAR_TEST), f"{name}: {CIFAR_TEST}")
    return Content((images, labels), test, CIFAR_CLASSES)


def _cifar_batch(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Records of a label byte and the pixels of three channels, one after another."""
    record = 1 + int(np.prod(CIFAR_SHAPE))
    if not content or len(content) % record:
        raise InputError(f"{name} is truncated: {len(content)} bytes are not records of {record}")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    labels = records[:, 0]
    if labels.max() >= len(CIFAR_CLASSES):
        raise InputError(f"{name} is not a CIFAR-10 batch: it has a label {labels.max()}")
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1), labels


def read_frey(store: Store) -> Content:
    """1,965 images (N, 28, 20) of one face, without labels."""
    from scipy.io import loadmat

    path, content = store.content(FREY_FILE)
    try:
        columns = loadmat(io.BytesIO(content))["ff"]  # a column of pixels per image
        return Content((columns.T.reshape(-1, *FREY_SIZE), None))
    except Exception as error:  # damaged MATLAB files raise a dozen unrelated types
        raise InputError(f"{path} does not hold Frey faces ({error})") from None
