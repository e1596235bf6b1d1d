"""Self-describing .npz checkpoints: arrays by parameter path, and the configuration as JSON.

The JSON is stored as a uint8 array called `__config__`, because `mx.load` rejects a file with a
NumPy string array, and an object array would need pickle. Writes are atomic, so a file is complete
or absent. The whole file is checked before a model is built from it.
"""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from .. import __version__
from ..config import ModelConfig
from ..data.arrays import Shapes, array_shapes, read_arrays
from ..device import forks
from ..errors import InputError
from ..evaluation.scores import bits_per_dim
from ..hub.model_files import find_model
from ..models import LatentVariableModel, build_model
from ..system.files import atomic_write
from . import safetensors_models

CONFIG_KEY = "__config__"
FORMAT = 1
LARGEST_CONFIG_BYTES = 1 << 26
FLOAT_TYPES = ("<f4", "<f8", "<f2")
LARGEST_WEIGHT = 1e12  # far above any trained weight; products of larger ones overflow


@dataclass
class ModelFile:
    """A model with the metadata of its file.

    `data` describes the training images (source, image_size, classes), `metrics` has the scores
    measured at the end of training, and `training` the options used.
    """

    model: LatentVariableModel
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def save_model(path: str | Path, model: LatentVariableModel, **description: Any) -> None:
    """Write `model` with its configuration; `description` may give data, metrics, training.

    A path that ends in .safetensors gets such a file, any other an .npz.
    """
    info = {"kind": "model", "model": model.config.to_dict(), **description}
    save_arrays(path, model.arrays(), info)


def model_to_bytes(model: LatentVariableModel) -> bytes:
    """Return the content of the .npz file of a network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        save_model(path, model)
        return path.read_bytes()


def model_from_bytes(content: bytes) -> LatentVariableModel:
    """Return the network in the content of an .npz file. Raises InputError if it is damaged."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        path.write_bytes(content)
        return load_model(path).model


def load_model(path: str | Path, config: ModelConfig | None = None) -> ModelFile:
    """Load a network from a file.

    `load` returns the same network with checks of its inputs.

    Parameters
    ----------
    path : str or Path
        An .npz or .safetensors file, the name of a pretrained model, or ORG/NAME or
        ORG/NAME@REVISION on the Hugging Face Hub.
    config : ModelConfig, optional
        Configuration, for files that contain weights only.

    Returns
    -------
    ModelFile
        The network, its `model`, and the description in the file.

    Raises
    ------
    InputError
        If the file is missing, damaged, not a model of this package, of a newer format, or does
        not fit its configuration. It is a ValueError.

    Examples
    --------
    >>> load_model("pretrained/gmvae_digits_K10_dims_0008.npz").model.config.K
    10
    """
    forks.require_usable()
    path = find_model(path).path
    if path.is_dir():
        raise InputError(f"cannot read {path}: it is a folder; give the model.npz in it")
    if path.suffix == safetensors_models.SUFFIX:
        shapes, encoded = safetensors_models.header(path)
        info = _parsed(path, encoded) if encoded is not None else {}
    else:
        shapes = _shapes(path)
        info = load_info(path) if CONFIG_KEY in shapes else {}
    if not info and config is None:
        raise InputError(
            f"{path} has no configuration inside, so it is not an mlx_gmvae model; if its arrays "
            "have mlx_gmvae's names, describe the model with --config FILE.json"
        )
    if info and info.get("kind") != "model":
        raise InputError(f"{path} holds training state, not a model; use the model.npz beside it")
    model = build_model(config or ModelConfig.from_dict(info.get("model", {})))
    _check_shapes(path, model, {current_name(name): shapes[name] for name in shapes})
    loaded = load_arrays(path).items()
    arrays = {current_name(name): value.astype(mx.float32) for name, value in loaded}
    for name, value in arrays.items():
        if not mx.isfinite(value).all():
            raise InputError(f"{path} is damaged: {name} is not finite; copy or train it again")
        if mx.abs(value).max() > LARGEST_WEIGHT:
            raise InputError(f"{path} is damaged: {name} has values above {LARGEST_WEIGHT:g}")
    model.load_weights(list(arrays.items()))
    model.eval()
    parts = {key: info.get(key) or {} for key in ("data", "metrics", "training")}
    if not all(isinstance(part, dict) for part in parts.values()):
        raise InputError(f"{path}: its metadata about data or training is damaged")
    _correct_bits(model, parts["metrics"])
    return ModelFile(model, **parts)


def current_name(name: str) -> str:
    """Return the current name of an array in a model file; some names changed after 0.2."""
    return name.replace(".patches.kinds", ".patches.codebook")


def _correct_bits(model: LatentVariableModel, metrics: dict[str, Any]) -> None:
    """Recompute the bits per dimension; up to 0.2.0 they were stored for every likelihood."""
    scores = metrics.get("generative")
    if not isinstance(scores, dict) or "bits_per_dim" not in scores:
        return
    elbo = scores.get("elbo")
    bits = bits_per_dim(model, -elbo) if isinstance(elbo, float) else None
    del scores["bits_per_dim"]
    if bits is not None:
        scores["bits_per_dim"] = bits


def save_arrays(path: str | Path, arrays: dict[str, mx.array], info: dict[str, Any]) -> None:
    """Write arrays and JSON to `path` in an atomic write."""
    encoded = json.dumps({"format": FORMAT, "package": __version__, **info})
    path = Path(path)
    with atomic_write(path) as temporary:
        if path.suffix == safetensors_models.SUFFIX:
            safetensors_models.save(temporary, arrays, encoded)
        else:
            content = {name: np.array(value) for name, value in arrays.items()}
            content[CONFIG_KEY] = np.frombuffer(encoded.encode(), dtype=np.uint8)
            with temporary.open("wb") as file:  # given a name, NumPy would add .npz
                np.savez(file, **content)  # type: ignore[arg-type]


def load_arrays(path: str | Path) -> dict[str, mx.array]:
    """Return every array in the file except the configuration; float64 becomes float32."""
    if Path(path).suffix == safetensors_models.SUFFIX:
        return safetensors_models.load(Path(path))
    try:
        arrays = read_arrays(Path(path))
        return {name: _to_mlx(array) for name, array in arrays.items() if name != CONFIG_KEY}
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{path} is damaged ({error}); copy or train it again") from None


def load_info(path: str | Path) -> dict[str, Any]:
    """Return the JSON in a file from `save_arrays`. Raises InputError if there is none."""
    path = Path(path)
    shape, dtype = _shapes(path).get(CONFIG_KEY, ((), ""))
    if len(shape) != 1 or dtype != "|u1" or shape[0] > LARGEST_CONFIG_BYTES:
        raise InputError(f"{path} has no readable configuration; it is not an mlx_gmvae file")
    try:
        encoded = read_arrays(path, [CONFIG_KEY])[CONFIG_KEY].tobytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: its configuration is damaged ({error})") from None
    return _parsed(path, encoded)


def _parsed(path: Path, encoded: str | bytes) -> dict[str, Any]:
    """Parse the JSON in a file of this package. Raises InputError if it is invalid."""
    try:
        info = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its configuration is damaged ({error})") from None
    if not isinstance(info, dict) or not isinstance(info.get("format"), int):
        raise InputError(f"{path}: its configuration is not one of mlx_gmvae")
    if info["format"] > FORMAT:
        raise InputError(
            f"{path} is in format {info['format']}, this version reads {FORMAT}; update mlx_gmvae"
        )
    return info  # type: ignore[no-any-return]


def _shapes(path: Path) -> Shapes:
    """Return (shape, dtype) of every array of an .npz. Raises InputError."""
    try:
        return array_shapes(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise InputError(f"{path} is damaged or not an .npz file of numeric arrays") from None


def _check_shapes(path: Path, model: LatentVariableModel, found: Shapes) -> None:
    """Compare the file with the parameters of the model, which MLX has not allocated yet."""
    expected = {name: value.shape for name, value in model.arrays().items()}
    names = set(found) - {CONFIG_KEY}
    if names != set(expected):
        wrong = sorted(names ^ set(expected))
        raise InputError(f"{path} does not fit its configuration: {wrong[0]} is missing or extra")
    for name, shape in expected.items():
        found_shape, dtype = found[name]
        if found_shape != tuple(shape) or dtype not in FLOAT_TYPES:
            raise InputError(
                f"{path} does not fit its configuration: {name} is {found_shape} of type {dtype}, "
                f"not {tuple(shape)} of float"
            )


def _to_mlx(array: np.ndarray) -> mx.array:
    return mx.array(array.astype(np.float32) if array.dtype == np.float64 else array)
