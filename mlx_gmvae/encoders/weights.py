"""Weights of a `VisionTransformer`, read from .safetensors files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
from mlx.utils import tree_flatten

from ..data.safetensors import BYTES, TYPES, read_header
from ..errors import InputError
from .architectures import ARCHITECTURES, Described, our_names
from .vit import VisionTransformer, ViTConfig

READABLE = {*BYTES, *TYPES.values()}
# Parameters that are several tensors in the files, in the order of their rows.
FUSED = {
    "attention.key_value": ("attention.key", "attention.value"),
    "mlp.up": ("mlp.gate", "mlp.up"),
}
Shape = tuple[int, ...]


class Tensor(NamedTuple):
    """A tensor in a file, with its shape there."""

    path: Path
    name: str
    shape: Shape
    dtype: str


def find_tensors(paths: list[Path], model_type: str) -> dict[str, Tensor]:
    """Return the tensors that `VisionTransformer` needs, by parameter name. Raises InputError."""
    everything: dict[str, Tensor] = {}
    for path in paths:
        shapes, _ = read_header(path)
        everything |= {
            name: Tensor(path, name, shape, dtype) for name, (shape, dtype) in shapes.items()
        }
    names = our_names(everything, ARCHITECTURES[model_type].names)
    return {own: everything[name] for own, name in names.items()}


def load_network(described: Described, tensors: Mapping[str, Tensor]) -> VisionTransformer:
    """Return a network with the weights in the files. Raises InputError.

    Missing tensors and other shapes are found before anything is allocated.
    """
    config = described.config
    wanted = _shapes(config, has_gate=any("mlp.gate" in name for name in tensors))
    for name, shape in wanted.items():
        _require(tensors.get(name), name, shape, described)
    more = tensors.get(f"layers.{config.num_layers}.norm1.weight")
    if more is not None:
        raise InputError(
            f"{more.path} has more layers than the {config.num_layers} in config.json: one of the "
            "two files belongs to another encoder"
        )
    files: dict[Path, dict[str, mx.array]] = {}
    arrays: dict[str, mx.array] = {}
    for name, shape in wanted.items():
        tensor = tensors.get(name)
        if tensor is None:
            arrays[name] = mx.zeros(shape)
            continue
        if tensor.path not in files:
            files[tensor.path] = _opened(tensor.path)
        arrays[name] = files[tensor.path][tensor.name].astype(mx.float32)
    network = VisionTransformer(config)
    network.load_weights(list(_assembled(arrays, config).items()))
    _evaluate(network, tensors)
    return network


def _shapes(config: ViTConfig, has_gate: bool) -> dict[str, Shape]:
    """Return the shape of each tensor in the files by name, without leading axes of length 1."""
    dims, mlp_dims = config.hidden_dims, config.mlp_dims
    shapes: dict[str, Shape] = {}

    def linear(name: str, outputs: int, *inputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, *inputs), (outputs,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (dims,)

    def mlp(name: str) -> None:
        if config.is_gated and has_gate:
            linear(f"{name}.gate", mlp_dims, dims)
        linear(f"{name}.up", mlp_dims * (1 + (config.is_gated and not has_gate)), dims)
        linear(f"{name}.down", dims, mlp_dims)

    linear("patches", dims, 3, config.patch_size, config.patch_size)
    if config.has_cls_token:
        shapes["cls_token"] = (dims,)
    if config.num_registers:
        shapes["registers"] = (config.num_registers, dims)
    if not config.rope_theta:
        shapes["positions"] = (config.num_prefix + config.num_patches, dims)
    if config.has_pre_norm:
        norm("pre_norm")
    for number in range(config.num_layers):
        layer = f"layers.{number}"
        for part in ("query", "key", "value", "output"):
            linear(f"{layer}.attention.{part}", dims, dims)
        norm(f"{layer}.norm1")
        norm(f"{layer}.norm2")
        mlp(f"{layer}.mlp")
        if config.has_layer_scale:
            shapes[f"{layer}.scale1"] = shapes[f"{layer}.scale2"] = (dims,)
    norm("norm")
    if config.pools_by_attention:
        shapes["pool.probe"] = (dims,)
        linear("pool.attention.query_key_value", 3 * dims, dims)
        linear("pool.attention.output", dims, dims)
        norm("pool.norm")
        mlp("pool.mlp")
    if config.projection_dims:
        linear("projection", config.projection_dims, dims)
    return shapes


def _require(tensor: Tensor | None, name: str, shape: Shape, described: Described) -> None:
    """Raise InputError unless a tensor has that shape, or is not needed and missing."""
    if tensor is None:
        if not name.endswith(described.absent):
            raise InputError(
                f"the weights lack {name}, which a {described.model_type} has; download them again"
            )
        return
    if tensor.dtype not in READABLE:
        raise InputError(
            f"{tensor.path}: {tensor.name} is of type {tensor.dtype}; weights must be floats "
            "(F32, F16 or BF16)"
        )
    found = tensor.shape
    while len(found) > len(shape) and found[0] == 1:
        found = found[1:]
    if found != shape:
        raise InputError(
            f"{tensor.path}: {tensor.name} has the shape {tensor.shape}, but config.json needs "
            f"{shape}: one of the two files belongs to another encoder"
        )


def _opened(path: Path) -> dict[str, mx.array]:
    """Return arrays that are read when they are first used."""
    try:
        return dict(mx.load(str(path)))  # type: ignore[arg-type]
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); download it again") from None


def _assembled(arrays: dict[str, mx.array], config: ViTConfig) -> dict[str, mx.array]:
    """Return the parameters of the network from the tensors in the files."""
    for kind in ("weight", "bias"):
        whole = arrays.pop(f"pool.attention.query_key_value.{kind}", None)
        if whole is not None:
            parts = zip(("query", "key", "value"), mx.split(whole, 3), strict=True)
            arrays |= {f"pool.attention.{name}.{kind}": part for name, part in parts}
        for fused, parts_of in FUSED.items():
            for name in [name for name in arrays if name.endswith(f"{parts_of[0]}.{kind}")]:
                start = name.removesuffix(f"{parts_of[0]}.{kind}")
                both = [arrays.pop(f"{start}{part}.{kind}") for part in parts_of]
                arrays[f"{start}{fused}.{kind}"] = mx.concatenate(both)
    patches = arrays["patches.weight"].transpose(0, 2, 3, 1)  # channels last
    arrays["patches.weight"] = patches.reshape(config.hidden_dims, -1)
    for name in ("cls_token", "registers", "positions", "pool.probe"):  # (1, 1, D) in some files
        if name in arrays:
            rows = arrays[name].reshape(-1, config.hidden_dims)
            arrays[name] = rows if name in ("registers", "positions") else rows[0]
    return arrays


def _evaluate(network: VisionTransformer, tensors: Mapping[str, Tensor]) -> None:
    """Read all parameters. Raises InputError if some cannot be read or are not finite."""
    path = next(iter(tensors.values())).path
    try:
        mx.eval(network.parameters())
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); download it again") from None
    parameters: Any = tree_flatten(network.parameters())
    finite: Any = mx.stack([mx.isfinite(array).all() for _, array in parameters]).tolist()
    bad = [name for (name, _), is_finite in zip(parameters, finite, strict=True) if not is_finite]
    if bad:
        raise InputError(
            f"{path} has NaN or infinite weights in {bad[0]}"
            + (f" and {len(bad) - 1} others" if len(bad) > 1 else "")
            + "; download it again"
        )
