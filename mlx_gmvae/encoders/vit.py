"""Vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) and its variants.

An image is cut into patches of p x p pixels, and each becomes a token of D numbers. Blocks of
attention and an MLP transform all tokens. The features of the image are computed from the last
tokens.

References
----------
DINO, arXiv:2104.14294; DINOv2, arXiv:2304.07193; registers, arXiv:2309.16588; DINOv3,
arXiv:2508.10104; CLIP, arXiv:2103.00020; SigLIP, arXiv:2303.15343.
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ..device.parallel import on_cpu
from .activations import ACTIVATIONS, attention
from .positions import interpolated, rotated, rotations

Angles = tuple[mx.array, mx.array] | None


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a vision transformer, and the options in which its variants differ."""

    hidden_dims: int
    num_layers: int
    num_heads: int
    mlp_dims: int
    patch_size: int
    num_patches: int  # in the square grid of the training
    activation: str
    eps: float
    is_gated: bool = False  # SwiGLU instead of an MLP of two layers
    has_cls_token: bool = True
    num_registers: int = 0
    rope_theta: float = 0.0  # 0: position embeddings are learned
    antialias: bool = False  # in the interpolation of position embeddings
    has_pre_norm: bool = False
    has_layer_scale: bool = False
    pools_by_attention: bool = False  # else the features are the CLS token
    projection_dims: int = 0  # 0: features are not projected

    @property
    def num_prefix(self) -> int:
        """Number of tokens with a position embedding before the patches."""
        return int(self.has_cls_token)

    @property
    def num_features(self) -> int:
        """Number of features of an image."""
        return self.projection_dims or self.hidden_dims


class VisionTransformer(nn.Module):
    """Vision transformer from normalised images (B, H, W, 3) to features (B, F).

    All parameters are zeros until they are loaded from a file.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = config
        dims = config.hidden_dims
        self.patches = Linear(3 * config.patch_size**2, dims)
        if config.has_cls_token:
            self.cls_token = mx.zeros((dims,))
        if config.num_registers:
            self.registers = mx.zeros((config.num_registers, dims))
        if not config.rope_theta:
            self.positions = mx.zeros((config.num_prefix + config.num_patches, dims))
        if config.has_pre_norm:
            self.pre_norm = LayerNorm(dims, config.eps)
        self.layers = [Block(config) for _ in range(config.num_layers)]
        self.norm = LayerNorm(dims, config.eps)
        if config.pools_by_attention:
            self.pool = AttentionPool(config)
        if config.projection_dims:
            self.projection = Linear(dims, config.projection_dims)

    def __call__(self, images: mx.array) -> mx.array:
        x, angles = self.embed(images)
        for layer in self.layers[:-1]:
            x = layer(x, angles)
        if self.config.pools_by_attention:
            features = self.pool(self.norm(self.layers[-1](x, angles)))
        else:  # only the CLS token of the last block is needed
            features = self.norm(self.layers[-1](x, angles, num_out=1))[:, 0]
        return self.projection(features) if self.config.projection_dims else features

    def embed(self, images: mx.array) -> tuple[mx.array, Angles]:
        """Return the tokens (B, N, D) of images, and the angles of a rotary embedding or None."""
        config = self.config
        size = config.patch_size
        batch, grid = len(images), (images.shape[1] // size, images.shape[2] // size)
        images = images[:, : grid[0] * size, : grid[1] * size]
        squares = images.reshape(batch, grid[0], size, grid[1], size, 3).swapaxes(2, 3)
        x = self.patches(squares.reshape(batch, grid[0] * grid[1], -1))
        if config.has_cls_token:
            x = mx.concatenate([_repeated(self.cls_token[None], batch), x], axis=1)
        angles = None
        num_before = config.num_prefix + config.num_registers
        if config.rope_theta:
            head_dims = config.hidden_dims // config.num_heads
            angles = rotations(grid, num_before, head_dims, config.rope_theta)
        else:
            positions = self.positions.astype(mx.float32)
            positions = interpolated(positions, grid, config.num_prefix, config.antialias)
            x = x + positions.astype(x.dtype)
        if config.num_registers:
            registers = _repeated(self.registers, batch)
            x = mx.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)
        return (self.pre_norm(x) if config.has_pre_norm else x), angles


class Block(nn.Module):
    """Transformer block: x + attention(norm(x)), then x + mlp(norm(x)).

    With layer scale (DINOv2) each sum has a learned scale for every feature.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        dims = config.hidden_dims
        self.norm1 = LayerNorm(dims, config.eps)
        self.attention = Attention(dims, config.num_heads)
        self.norm2 = LayerNorm(dims, config.eps)
        self.mlp = MLP(config)
        self.has_layer_scale = config.has_layer_scale
        if config.has_layer_scale:
            self.scale1 = mx.zeros((dims,))
            self.scale2 = mx.zeros((dims,))

    def __call__(self, x: mx.array, angles: Angles, num_out: int | None = None) -> mx.array:
        """Return all tokens, or only the first `num_out`; attention is over all either way."""
        normed = self.norm1(x)
        change = self.attention(normed[:, :num_out], normed, angles)
        x = x[:, :num_out] + (change * self.scale1 if self.has_layer_scale else change)
        change = self.mlp(self.norm2(x))
        return x + (change * self.scale2 if self.has_layer_scale else change)


class Attention(nn.Module):
    """Multi-head attention of tokens (B, n, D) over tokens (B, N, D)."""

    def __init__(self, dims: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(dims, dims)
        self.key_value = Linear(dims, 2 * dims)
        self.output = Linear(dims, dims)

    def __call__(self, x: mx.array, seen: mx.array, angles: Angles = None) -> mx.array:
        batch, num, dims = x.shape
        (queries,) = self._heads(self.query(x), 1)
        keys, values = self._heads(self.key_value(seen), 2)
        if angles is not None:
            queries, keys = (rotated(each, *angles).astype(x.dtype) for each in (queries, keys))
        heads = attention(queries, keys, values)
        return self.output(heads.swapaxes(1, 2).reshape(batch, num, dims))

    def _heads(self, x: mx.array, parts: int) -> mx.array:
        """Split into heads: (B, N, parts * D) -> (parts, B, heads, N, D / heads)."""
        return x.reshape(*x.shape[:2], parts, self.num_heads, -1).transpose(2, 0, 3, 1, 4)


class MLP(nn.Module):
    """MLP of two layers; if gated, down(act(gate(x)) * up(x)) (SwiGLU, arXiv:2002.05202)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.activation = config.activation
        self.is_gated = config.is_gated
        widths = (1 + config.is_gated) * config.mlp_dims
        self.up = Linear(config.hidden_dims, widths)
        self.down = Linear(config.mlp_dims, config.hidden_dims)

    def __call__(self, x: mx.array) -> mx.array:
        act, x = ACTIVATIONS[self.activation], self.up(x)
        if self.is_gated:
            gate, x = mx.split(x, 2, axis=-1)
            return self.down(act(gate) * x)
        return self.down(act(x))


class AttentionPool(nn.Module):
    """Pooling of SigLIP: attention of a learned token, then an MLP; (B, N, D) -> (B, D)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.probe = mx.zeros((config.hidden_dims,))
        self.attention = Attention(config.hidden_dims, config.num_heads)
        self.norm = LayerNorm(config.hidden_dims, config.eps)
        self.mlp = MLP(config)

    def __call__(self, x: mx.array) -> mx.array:
        pooled = self.attention(_repeated(self.probe[None], len(x)), x)
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]


class Linear(nn.Module):
    """Linear layer, x W^T + b."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = mx.zeros((outputs, inputs))
        self.bias = mx.zeros((outputs,))

    def __call__(self, x: mx.array) -> mx.array:
        if on_cpu():  # addmm on the CPU first copies the bias for every row
            return x @ self.weight.T + self.bias
        return mx.addmm(self.bias, x, self.weight.T)


class LayerNorm(nn.Module):
    """Layer normalisation (arXiv:1607.06450)."""

    def __init__(self, dims: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = mx.zeros((dims,))
        self.bias = mx.zeros((dims,))

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.layer_norm(x, self.weight, self.bias, self.eps)


def _repeated(tokens: mx.array, batch: int) -> mx.array:
    """Repeat tokens for each image: (n, D) -> (B, n, D)."""
    return mx.broadcast_to(tokens, (batch, *tokens.shape))
