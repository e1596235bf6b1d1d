"""The published sets: where they are served and what their files must contain."""

from pathlib import Path

from .layouts import CIFAR_ARCHIVE, FREY_FILE, read_cifar, read_frey, read_mnist
from .store import Content, Published, Store

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
    """The arrays of a published set, uint8.

    Files are looked for in `data_dir/name` and `data_dir`, and downloaded into the former when
    absent. Raises DownloadError if they cannot be had, InputError if a file there is not the
    published one.
    """
    published = PUBLISHED[name]
    return published.read(Store(name, published, data_dir))
