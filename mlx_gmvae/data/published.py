"""Published datasets: mirrors, checksums and readers of their files."""

import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import InputError
from .downloads import Content, Downloads, Published
from .idx import parse_idx, read_raw

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


def read_mnist(store: Downloads) -> Content:
    """Return images (N, 28, 28) and labels from the train and t10k files."""
    train, test = (
        tuple(parse_idx(content, path) for path, content in map(store.content, names))
        for names in IDX_FILES.values()
    )
    return Content((train[0], train[1]), (test[0], test[1]))


def read_cifar(store: Downloads) -> Content:
    """Return images (N, 32, 32, 3) and labels from the extracted folder, or from the archive."""
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
    """Parse records of one label byte and the pixels of three channels, channel by channel."""
    record = 1 + int(np.prod(CIFAR_SHAPE))
    if not content or len(content) % record:
        raise InputError(
            f"{name} is truncated: {len(content)} bytes are not a multiple of {record}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    labels = records[:, 0]
    if labels.max() >= len(CIFAR_CLASSES):
        raise InputError(f"{name} is not a CIFAR-10 batch: it has a label {labels.max()}")
    return records[:, 1:].reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1), labels


def read_frey(store: Downloads) -> Content:
    """Return 1,965 images (N, 28, 20) of one face, without labels."""
    from scipy.io import loadmat

    path, content = store.content(FREY_FILE)
    try:
        columns = loadmat(io.BytesIO(content))["ff"]  # one column of pixels per image
        return Content((columns.T.reshape(-1, *FREY_SIZE), None))
    except Exception as error:  # damaged MATLAB files raise a dozen unrelated types
        raise InputError(f"{path} does not hold Frey faces ({error})") from None


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
        read=read_mnist,
        suffix=".gz",
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
        read=read_mnist,
        digest_of="archive",
        suffix=".gz",
    ),
    "kmnist": Published(
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        digests={
            "train-images-idx3-ubyte": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "train-labels-idx1-ubyte": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "t10k-images-idx3-ubyte": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "t10k-labels-idx1-ubyte": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        },
        read=read_mnist,
        digest_of="archive",
        suffix=".gz",
    ),
    "cifar-10": Published(
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        digests={CIFAR_ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        read=read_cifar,
    ),
    "frey": Published(
        mirrors=("https://cs.nyu.edu/~roweis/data/",),
        digests={FREY_FILE: "265a83a23adb081755cd3de375509828e690324d1d60f076b8ecebc840d59c64"},
        read=read_frey,
    ),
}


def load_published(name: str, data_dir: Path) -> Content:
    """Return the uint8 arrays of a published dataset.

    Files are searched for in `data_dir/name` and `data_dir`, and downloaded into the former if
    absent. Raises DownloadError if they cannot be downloaded, InputError if a file on disk is not
    the published one.
    """
    published = PUBLISHED[name]
    return published.read(Downloads(name, published, data_dir))
