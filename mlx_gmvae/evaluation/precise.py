"""Outputs of a model in double precision, for tables.

In single precision the last digits of a row's output depend on the other rows, since BLAS adds up
in another order at the edges of its tiles. In double precision this difference is far below the
precision of float32, so an output is the same for any order and any subset of the rows.
"""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from ..data.batches import over_batches
from ..device.placement import on_device
from ..models import LatentVariableModel, build_model

Function = Callable[[LatentVariableModel, mx.array], mx.array]


def precisely(
    model: LatentVariableModel, function: Function, images: np.ndarray, copies: int = 1
) -> np.ndarray:
    """Return `function(model, x)` over batches, as float32; on the CPU, which alone has float64."""
    with on_device(mx.cpu):
        double = build_model(model.config)  # a copy, so that other threads may use the model
        double.update(tree_map(lambda value: value.astype(mx.float64), model.parameters()))
        double.eval()
        answers = over_batches(lambda x: function(double, x.astype(mx.float64)), images, copies)
    return answers.astype(np.float32)
