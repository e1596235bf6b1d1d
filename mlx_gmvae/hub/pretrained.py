"""Names and checksums of the pretrained models, and where their files are found."""

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from .download import damaged, downloaded, sha256_of
from .repository import INSTALL, Repository, named, package

REPOSITORY: str | None = None  # ORG/NAME of a repository with these files on the Hub
VARIABLE = "MLX_GMVAE_PRETRAINED"  # overrides it
FOLDER = Path("pretrained")  # in a clone
CLONE = Path(__file__).parents[2]
PRETRAINED = {  # SHA-256 of NAME.npz
    "gmvae_digits_K10_dims_0008": "06ef89d9716cc8bc0f029d95754ac61ce4b6689545c0b3556378c67dd853ccc3",
    "gmvae_frey_K8_dims_0008": "e88c2e0f567fcb6434a21f58b5b1d240c721956197d7bc7643dcac66a43c4037",
    "gmvae_letters_K10_dims_0016": "c42a1f7025da64ebc268c4c8437bc7787db3e142b77bf3c013d5748bd22c420c",
    "gmvae_mnist_K10_dims_0008": "5f75500e9ed17ab8cc3a7bb09759f983a3375ba4a1d9448ab4a17e1573ef5376",
    "gmvae_mnist_K30_dims_0008": "122c03dfab729f18b89230617df27ca6676aad9f5092c9d69308326a2b36324b",
    "gmvae_photos_K10_dims_0032": "6e43d2a260cdc6a0a39968a26a01ae6a70a306547ff9fe617961c0d59443f841",
    "vade_mnist_K10_dims_0010": "7f6a5468f8e71d8343e53d2a12017beeab9043e46229d28cc4e7ea7abd77dc15",
    "vae-gmm_mnist_K10_dims_0010": "4e02eebbdf4b018187be165658cbc363bb921c20e5f09b98f219764572b87b2a",
    "vae_mnist_filters_0064_dims_0008": "25223fe285f17d6a884a6988c0498de0fd55f624cbe0738ddd43df7efe92f142",
    "vae_mnist_mlp_dims_0002": "8d40e29d3508710e11ebef5e2d25aa7ff13e636b3f689c203cdb6401846eef61",
}


def find_pretrained(name: str, say: Callable[[str], None]) -> Path:
    """Return the file of a pretrained model, with the right checksum. Raises InputError.

    It is in pretrained/ of a clone, or else in the cache of the Hub, downloaded if needed.
    """
    file = f"{name}.npz"
    found = [path for path in (FOLDER / file, CLONE / FOLDER / file) if path.is_file()]
    for path in found:
        if sha256_of([path]) == PRETRAINED[name]:
            return path
    if found:
        raise InputError(
            f"{found[0]} is not the pretrained model of that name (wrong SHA-256); restore it with "
            f"git checkout {FOLDER}, or give its path if you mean this file"
        )
    return _on_hub(name, file, say)


def _on_hub(name: str, file: str, say: Callable[[str], None]) -> Path:
    place = os.environ.get(VARIABLE) or REPOSITORY
    if place is None:
        raise InputError(
            f"{name} is not installed with the package; run the command in a clone of the "
            f"repository of mlx_gmvae, or give the path of {FOLDER / file} in one"
        )
    repository = named(place)
    if repository is None:
        raise InputError(f"{VARIABLE} is {place!r}; it must be ORG/NAME or ORG/NAME@REVISION")
    needed = f"{name} is downloaded with the package huggingface_hub: {INSTALL}"
    repo = Repository(package(needed), *repository, f"give the path of {file}")
    path = downloaded(repo, (file,), say)
    if path is None:
        raise InputError(f"{repo.place} has no {file}; set {VARIABLE} to a repository that has it")
    if sha256_of([path]) != PRETRAINED[name]:
        raise damaged(path)
    return path
