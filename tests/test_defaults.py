"""Inputs sizes and epochs that nobody gave, for small sets and large images."""

from mlx_gmvae.config import TrainConfig
from mlx_gmvae.data.splits import make_dataset
from mlx_gmvae.training.defaults import for_set_size

import numpy as np
import pytest


def chosen(num: int, height: int, width: int, **given: int) -> tuple[int, int]:
    """(batchsize, epochs) for `num` images."""
    images = np.broadcast_to(np.zeros(1, np.uint8), (num, height, width, 1))
    config = TrainConfig.from_dict(dict(given))
    fitted, reasons = for_set_size(config, make_dataset("some", images), set(given))
    for name in ("batchsize", "epochs"):
        if getattr(fitted, name) == getattr(config, name):
            assert name not in reasons
        else:
            assert reasons[name].startswith(f"{getattr(fitted, name)}: ")
    return fitted.batchsize, fitted.epochs


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((60_000, 28, 28), (256, 10)),  # MNIST: as configured
        ((10_000, 28, 28), (256, 42)),  # 1,600 steps of 256
        ((1438, 28, 28), (64, 146)),  # 3,200 steps of 64
        ((1438, 8, 8), (64, 73)),  # the digits: 1,600, since they are coarse
        ((25, 64, 64), (32, 500)),  # 31 photographs: no more than 500 passes
        ((58, 256, 256), (32, 282)),  # 72 of 256 x 256: no more than 2^30 pixels
        ((58, 1024, 1024), (2, 17)),
        ((10_000, 256, 256), (32, 10)),  # never fewer than 10
    ],
)
def test_by_steps_by_passes_and_by_pixels(
    shape: tuple[int, int, int], expected: tuple[int, int]
) -> None:
    assert chosen(*shape) == expected


@pytest.mark.parametrize(
    ("num", "expected"), [(31, 5), (240, 5), (400, 7), (1000, 10), (60_000, 10)]
)
def test_few_images_have_fewer_neighbours(num: int, expected: int) -> None:
    images = np.zeros((num, 8, 8, 1), np.uint8)
    fitted, reasons = for_set_size(TrainConfig(), make_dataset("some", images), set())
    assert fitted.neighbours == expected and ("neighbours" in reasons) == (expected != 10)
    fitted, _ = for_set_size(
        TrainConfig(neighbours=3), make_dataset("some", images), {"neighbours"}
    )
    assert fitted.neighbours == 3


def test_what_is_given_stays() -> None:
    assert chosen(25, 64, 64, epochs=1600) == (32, 1600)
    assert chosen(58, 256, 256, batchsize=4) == (4, 115)
