"""Supported architectures: mapping of config.json and tensor names to `VisionTransformer`.

Names and defaults are those of the transformers package. Tensors without an entry here, such as
those of a text tower, are not read.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import InputError
from .activations import ACTIVATIONS
from .vit import ViTConfig

SQUARE = ("image_size", "patch_size")
LARGEST = {
    "hidden_size": 16384, "num_hidden_layers": 256, "num_attention_heads": 256, "patch_size": 256,
    "image_size": 8192, "intermediate_size": 131072, "mlp_ratio": 64, "projection_dim": 65536,
    "num_register_tokens": 1024,
}  # fmt: skip
SMALLEST = {"num_register_tokens": 0}
ARRAYS = ("positions",)  # parameters here that are modules in some files

VIT = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "num_channels": 3,
    "intermediate_size": 3072, "image_size": 224, "patch_size": 16, "hidden_act": "gelu",
    "layer_norm_eps": 1e-12, "qkv_bias": True,
}  # fmt: skip
DINOV2 = VIT | {
    "intermediate_size": 0, "mlp_ratio": 4, "layer_norm_eps": 1e-6, "patch_size": 14,
    "use_swiglu_ffn": False, "num_register_tokens": 0,
}  # fmt: skip
DINOV3 = VIT | {
    "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536,
    "layer_norm_eps": 1e-5, "num_register_tokens": 0, "use_gated_mlp": False, "rope_theta": 100.0,
    "query_bias": True, "key_bias": False, "value_bias": True, "proj_bias": True, "mlp_bias": True,
}  # fmt: skip
CLIP = VIT | {
    "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": 512
}  # fmt: skip
SIGLIP = VIT | {
    "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "vision_use_head": True
}  # fmt: skip

VIT_NAMES = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "positions",
    "embeddings.patch_embeddings.projection": "patches",
    "encoder.layer.*.layernorm_before": "layers.*.norm1",
    "encoder.layer.*.attention.attention.query": "layers.*.attention.query",
    "encoder.layer.*.attention.attention.key": "layers.*.attention.key",
    "encoder.layer.*.attention.attention.value": "layers.*.attention.value",
    "encoder.layer.*.attention.output.dense": "layers.*.attention.output",
    "encoder.layer.*.layernorm_after": "layers.*.norm2",
    "encoder.layer.*.intermediate.dense": "layers.*.mlp.up",
    "encoder.layer.*.output.dense": "layers.*.mlp.down",
    "layernorm": "norm",
}
DINOV2_NAMES = VIT_NAMES | {
    "embeddings.register_tokens": "registers",
    "encoder.layer.*.norm1": "layers.*.norm1",
    "encoder.layer.*.layer_scale1.lambda1": "layers.*.scale1",
    "encoder.layer.*.norm2": "layers.*.norm2",
    "encoder.layer.*.mlp.fc1": "layers.*.mlp.up",
    "encoder.layer.*.mlp.fc2": "layers.*.mlp.down",
    "encoder.layer.*.mlp.weights_in": "layers.*.mlp.up",
    "encoder.layer.*.mlp.weights_out": "layers.*.mlp.down",
    "encoder.layer.*.layer_scale2.lambda1": "layers.*.scale2",
}
DINOV3_NAMES = {
    "embeddings.cls_token": "cls_token",
    "embeddings.register_tokens": "registers",
    "embeddings.patch_embeddings": "patches",
    "layer.*.norm1": "layers.*.norm1",
    "layer.*.attention.q_proj": "layers.*.attention.query",
    "layer.*.attention.k_proj": "layers.*.attention.key",
    "layer.*.attention.v_proj": "layers.*.attention.value",
    "layer.*.attention.o_proj": "layers.*.attention.output",
    "layer.*.layer_scale1.lambda1": "layers.*.scale1",
    "layer.*.norm2": "layers.*.norm2",
    "layer.*.mlp.gate_proj": "layers.*.mlp.gate",
    "layer.*.mlp.up_proj": "layers.*.mlp.up",
    "layer.*.mlp.down_proj": "layers.*.mlp.down",
    "layer.*.layer_scale2.lambda1": "layers.*.scale2",
    "norm": "norm",
}
CLIP_NAMES = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "positions",
    "embeddings.patch_embedding": "patches",
    "pre_layrnorm": "pre_norm",
    "encoder.layers.*.layer_norm1": "layers.*.norm1",
    "encoder.layers.*.self_attn.q_proj": "layers.*.attention.query",
    "encoder.layers.*.self_attn.k_proj": "layers.*.attention.key",
    "encoder.layers.*.self_attn.v_proj": "layers.*.attention.value",
    "encoder.layers.*.self_attn.out_proj": "layers.*.attention.output",
    "encoder.layers.*.layer_norm2": "layers.*.norm2",
    "encoder.layers.*.mlp.fc1": "layers.*.mlp.up",
    "encoder.layers.*.mlp.fc2": "layers.*.mlp.down",
    "post_layernorm": "norm",
    "visual_projection": "projection",
}
SIGLIP_NAMES = CLIP_NAMES | {
    "head.probe": "pool.probe",
    "head.attention.in_proj": "pool.attention.query_key_value",
    "head.attention.out_proj": "pool.attention.output",
    "head.layernorm": "pool.norm",
    "head.mlp.fc1": "pool.mlp.up",
    "head.mlp.fc2": "pool.mlp.down",
}


class Architecture(NamedTuple):
    """Defaults of config.json, parameter names by tensor name, and the default image processor."""

    defaults: dict[str, Any]
    names: dict[str, str]
    processor: str


ARCHITECTURES = {  # by model_type
    "dinov2": Architecture(DINOV2, DINOV2_NAMES, "BitImageProcessor"),
    "dinov2_with_registers": Architecture(
        DINOV2 | {"patch_size": 16, "num_register_tokens": 4}, DINOV2_NAMES, "BitImageProcessor"
    ),
    "dinov3_vit": Architecture(DINOV3, DINOV3_NAMES, "DINOv3ViTImageProcessor"),
    "vit": Architecture(VIT, VIT_NAMES, "ViTImageProcessor"),
    "clip": Architecture(CLIP, CLIP_NAMES, "CLIPImageProcessor"),
    "clip_vision_model": Architecture(CLIP, CLIP_NAMES, "CLIPImageProcessor"),
    "siglip": Architecture(SIGLIP, SIGLIP_NAMES, "SiglipImageProcessor"),
    "siglip_vision_model": Architecture(SIGLIP, SIGLIP_NAMES, "SiglipImageProcessor"),
}


class Described(NamedTuple):
    """Content of config.json: the network, and the biases that its file does not contain."""

    model_type: str
    config: ViTConfig
    absent: tuple[str, ...]  # suffixes of parameter names


def model_type_of(content: Mapping[str, Any], path: str) -> str:
    """Return the model_type in config.json. Raises InputError unless it is in `ARCHITECTURES`."""
    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise InputError(
            f"{path} has the architecture {model_type!r}, which is not supported; choose one of "
            + ", ".join(ARCHITECTURES)
        )
    return model_type


def describe(content: Mapping[str, Any], path: str, has_projection: bool) -> Described:
    """Parse config.json. Raises InputError if `VisionTransformer` does not support its values."""
    model_type = model_type_of(content, path)
    inner = content.get("vision_config", {}) if model_type in ("clip", "siglip") else content
    if not isinstance(inner, Mapping):
        raise InputError(f"{path}: vision_config must be a JSON object; download it again")
    given = ARCHITECTURES[model_type].defaults | dict(inner)
    if model_type == "clip":
        given["projection_dim"] = content.get("projection_dim", 512)
    values = {name: _checked(given, name, path) for name in given}
    return Described(model_type, _config(model_type, values, has_projection), _absent(values))


def _config(model_type: str, values: dict[str, Any], has_projection: bool) -> ViTConfig:
    is_clip, is_siglip = model_type.startswith("clip"), model_type.startswith("siglip")
    is_dinov2 = model_type.startswith("dinov2")
    is_gated = bool(values.get("use_swiglu_ffn") or values.get("use_gated_mlp"))
    mlp_dims, activation = values["intermediate_size"], values["hidden_act"]
    if is_dinov2:
        mlp_dims = int(values["hidden_size"] * values["mlp_ratio"])
        if is_gated:  # two thirds, rounded up to a multiple of 8
            mlp_dims, activation = (int(mlp_dims * 2 / 3) + 7) // 8 * 8, "silu"
    return ViTConfig(
        hidden_dims=values["hidden_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=values["num_attention_heads"],
        mlp_dims=mlp_dims,
        patch_size=values["patch_size"],
        num_patches=(values["image_size"] // values["patch_size"]) ** 2,
        activation=activation,
        eps=values["layer_norm_eps"],
        is_gated=is_gated,
        has_cls_token=not is_siglip,
        num_registers=values.get("num_register_tokens", 0),
        rope_theta=values["rope_theta"] if model_type == "dinov3_vit" else 0.0,
        antialias=model_type == "dinov2_with_registers",
        has_pre_norm=is_clip,
        has_layer_scale=is_dinov2 or model_type == "dinov3_vit",
        pools_by_attention=is_siglip,
        projection_dims=values["projection_dim"] if is_clip and has_projection else 0,
    )


def _checked(given: Mapping[str, Any], name: str, path: str) -> Any:
    """Return a value of config.json. Raises InputError if it is invalid."""
    value = given[name]
    if name in SQUARE and isinstance(value, list) and len(set(map(str, value))) == 1:
        value = value[0]
    if name in LARGEST and not (name == "intermediate_size" and "mlp_ratio" in given):
        low, high = SMALLEST.get(name, 1), LARGEST[name]
        whole = isinstance(value, int) or (name == "mlp_ratio" and isinstance(value, float))
        if not whole or isinstance(value, bool) or not low <= value <= high:
            raise InputError(f"{path}: {name} is {value!r}; it must be from {low} to {high}")
        if name == "num_attention_heads" and isinstance(given["hidden_size"], int):
            per_head, rest = divmod(given["hidden_size"], value)
            if rest or ("rope_theta" in given and per_head % 4):
                size = given["hidden_size"]
                raise InputError(f"{path}: hidden_size {size} cannot be split into {value} heads")
        if name == "patch_size" and value > (_checked(given, "image_size", path)):
            raise InputError(f"{path}: a patch of {value} pixels is larger than the image")
    elif name in ("layer_norm_eps", "rope_theta"):
        if not isinstance(value, float | int) or not 0 < value < 1e9:
            raise InputError(f"{path}: {name} is {value!r}; it must be a positive number")
    elif name == "hidden_act" and (not isinstance(value, str) or value not in ACTIVATIONS):
        raise InputError(
            f"{path}: hidden_act is {value!r}; it must be one of {', '.join(ACTIVATIONS)}"
        )
    elif name == "num_channels" and value != 3:
        raise InputError(f"{path}: num_channels is {value!r}; it must be 3")
    elif name == "vision_use_head" and value is not True:
        raise InputError(f"{path} has no pooling head (vision_use_head); choose another encoder")
    return value


def _absent(values: dict[str, Any]) -> tuple[str, ...]:
    """Return the biases that a file does not contain, as suffixes of parameter names."""
    ends = {
        "qkv_bias": ("attention.query.bias", "attention.key.bias", "attention.value.bias"),
        "query_bias": ("attention.query.bias",),
        "key_bias": ("attention.key.bias",),
        "value_bias": ("attention.value.bias",),
        "proj_bias": ("attention.output.bias",),
        "mlp_bias": ("mlp.gate.bias", "mlp.up.bias", "mlp.down.bias"),
    }
    always = ("projection.bias",) + ("patches.bias",) * ("projection_dim" in values)
    return always + tuple(end for name in ends if values.get(name) is False for end in ends[name])


def our_names(found: Iterable[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return the name of the tensor in a file for each parameter, by the parameter's name.

    A prefix of the patch embedding, such as "vision_model.", is a prefix of all tensors.
    """
    found = list(found)
    of_patches = (re.match(r"(.*?)embeddings\.patch_embedding", name) for name in found)
    prefix = next((match[1] for match in of_patches if match), "")
    ours = {}
    for name in found:
        module, kind = _split(name.removeprefix(prefix))
        number = re.search(r"\.(\d+)\.", module)
        own = names.get(module.replace(number[0], ".*.", 1) if number else module)
        if own is not None:
            own = own.replace("*", number[1] if number else "")
            ours[own if own in ARRAYS else own + kind] = name
    return ours


def _split(name: str) -> tuple[str, str]:
    """Split the name of a tensor into its module and ".weight", ".bias" or ""."""
    match = re.fullmatch(r"(.*)[._](weight|bias)", name)  # nn.MultiheadAttention of PyTorch has _
    return (match[1], f".{match[2]}") if match else (name, "")
