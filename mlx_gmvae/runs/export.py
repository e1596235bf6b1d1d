"""Functions of a model in files that MLX runs without this package."""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from ..device.parallel import plain_operations
from ..models import LatentVariableModel, MixtureModel
from ..system.files import atomic_write


def export_functions(
    network: LatentVariableModel, folder: Path, batch_sizes: Sequence[int]
) -> list[Path]:
    """Write encode, decode and, for a mixture, responsibilities to .mlxfn files.

    Each file accepts batches of these sizes. Returns the files.
    """
    config = network.config
    functions = {
        "encode": (lambda x: network.encode(x).mean, config.image_shape),
        "decode": (network.image, (config.latent_dims,)),
    }
    if isinstance(network, MixtureModel) and network.sees_features:
        functions["responsibilities"] = (
            lambda features: mx.exp(network.log_probabilities_of(features)),
            (config.feature_dims,),
        )
    elif isinstance(network, MixtureModel):
        functions["responsibilities"] = (network.responsibilities, config.image_shape)
    paths = {name: folder / f"{name}.mlxfn" for name in functions}
    for name, (function, shape) in functions.items():
        with (
            atomic_write(paths[name]) as written,
            plain_operations(),
            mx.exporter(str(written), function) as exporter,
        ):
            for size in batch_sizes:
                exporter(mx.zeros((size, *shape)))
    return list(paths.values())
