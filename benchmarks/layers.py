"""Time of a training step, layer by layer, beside the bare matrix products.

    OPENBLAS_NUM_THREADS=1 python benchmarks/layers.py

Measures the processor milliseconds of each layer of the default GMVAE (and of the VAE of 64x64),
forward and backward, for the number of images of a step, and those of a bare product of the same
sizes. Results are kept in benchmarks/results/layers.json.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.clustering.augment import Augmentation  # noqa: E402
from mlx_gmvae.config import ModelConfig  # noqa: E402
from mlx_gmvae.device import backend  # noqa: E402
from mlx_gmvae.models import build_model  # noqa: E402
from mlx_gmvae.models.layers import DownsampleConv2d, UpsampleConv2d, leaky_relu  # noqa: E402

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import record  # noqa: E402

REPEATS = 15
WORKLOADS = {
    "GMVAE conv, 28x28x1": (ModelConfig(), {"encoder": 256, "classifier": 512, "decoder": 320}),
    "GMVAE mlp, 28x28x1": (
        ModelConfig(arch="mlp"),
        {"encoder": 256, "classifier": 512, "decoder": 320},
    ),
    "VAE conv, 64x64x1": (
        ModelConfig(model="vae", image_size=(64, 64)),
        {"encoder": 128, "decoder": 128},
    ),
}


def main() -> None:
    backend.keep_freed_memory()  # as the scripts do
    results = {}
    for name, (config, images) in WORKLOADS.items():
        rows = table(config, images)
        results[name] = rows
        print(f"\n{name:<44}{'forward':>8}{'product':>8}{'backward':>9}{'product':>8}")
        for row in rows:
            print(
                f"{row['layer']:<44}{row['forward']:>8}{row['forward_product']:>8}"
                f"{row['backward']:>9}{row['backward_products']:>8}"
            )
    keep("layers", results)


def table(config: ModelConfig, images: dict[str, int]) -> list[dict]:
    model = build_model(config)
    mx.eval(model.parameters())  # otherwise every call would draw them again
    rows = []
    if "classifier" in images:
        x = mx.random.uniform(shape=(512, *config.image_shape))
        rows.append(row(f"distortions of {len(x)}", Augmentation(["affine"]), x, None))
    for part, num in images.items():
        network = model.classifier.encoder if part == "classifier" else model[part]
        if part == "decoder":
            x = mx.random.normal((num, config.latent_dims))
        else:
            x = mx.random.uniform(shape=(num, *config.image_shape))
        rows += network_rows(f"{part}, {num} images", network, x)
    logits = mx.random.normal((256, *config.image_shape))
    x = mx.random.uniform(shape=logits.shape)
    rows.append(
        row("cross-entropy of 256", lambda y: model.likelihood.log_prob(y, x), logits, None, True)
    )
    return rows


def network_rows(title: str, network: nn.Module, x: mx.array) -> list[dict]:
    """Return one row for each layer with weights, the following activation included."""
    rows, number = [], 0

    class Recorded(nn.Module):
        def __init__(self, layer: nn.Module):
            super().__init__()
            self.layer = layer

        def __call__(self, x: mx.array) -> mx.array:
            nonlocal number
            number += 1
            needs_gradient = number > 1 or title.startswith("decoder")
            layer = self.layer
            rows.append(
                row(f"{title}: {shape_of(layer, x)}", lambda x: leaky_relu(layer(x)), x, layer,
                    needs_gradient)
            )  # fmt: skip
            return layer(x)

    def wrap(value):
        if isinstance(value, (nn.Linear, DownsampleConv2d, UpsampleConv2d)):
            return Recorded(value)
        return [wrap(each) for each in value] if isinstance(value, list) else value

    for name, value in list(network.children().items()):
        if not name.startswith("_"):
            setattr(network, name, wrap(value))
    network(x)
    return rows


def shape_of(layer: nn.Module, x: mx.array) -> str:
    if isinstance(layer, nn.Linear):
        return f"dense {layer.weight.shape[1]} -> {layer.weight.shape[0]}"
    kind = "down" if isinstance(layer, DownsampleConv2d) else "up"
    return f"{kind} {x.shape[1]}x{x.shape[2]}, {x.shape[3]} -> {len(layer.bias)}"


def row(
    label: str,
    function: Callable,
    x: mx.array,
    layer: nn.Module | None,
    differentiate: bool = False,
) -> dict:
    """Time the forward pass, and the gradient of the weights and, if asked, of the input."""
    state = mx.random.state
    forward = milliseconds(mx.compile(function, inputs=state, outputs=state), x)
    both = forward
    if layer is not None:

        def total(weights: dict, x: mx.array) -> mx.array:
            layer.update(weights)
            return function(x).sum()

        gradient = mx.grad(total, argnums=(0, 1) if differentiate else 0)
        weights = layer.parameters()
        both = milliseconds(mx.compile(gradient), weights, x)
        layer.update(weights)  # the trace has replaced them
    elif differentiate:
        both = milliseconds(mx.compile(mx.grad(lambda x: function(x).sum())), x)
    products = product_sizes(layer, x)
    seconds = [milliseconds(lambda a, b: a @ b, *operands) for operands in products]
    times = 2 if differentiate else 1
    return {
        "layer": label,
        "forward": round(forward, 2),
        "forward_product": round(sum(seconds), 2),
        "backward": round(max(0.0, both - forward), 2),
        "backward_products": round(times * sum(seconds), 2),
    }


def product_sizes(layer: nn.Module | None, x: mx.array) -> list[tuple[mx.array, mx.array]]:
    """Return random operands for the matrix product of a layer."""
    if layer is None:
        return []
    if isinstance(layer, nn.Linear):
        outputs, inputs = layer.weight.shape
        rows = x.size // inputs
    elif isinstance(layer, DownsampleConv2d):
        outputs, inputs = len(layer.bias), 16 * x.shape[-1]
        rows = x.size // x.shape[-1] // 4
    else:
        outputs, inputs = 4 * len(layer.bias), 4 * x.shape[-1]
        rows = x.size // x.shape[-1]
    return [(mx.random.normal((rows, inputs)), mx.random.normal((inputs, outputs)))]


def milliseconds(function: Callable, *inputs) -> float:
    """Return the median processor time of a call of the function."""
    mx.eval(inputs)
    times = []
    for _ in range(3 + REPEATS):
        started = time.process_time()
        mx.eval(function(*inputs))
        times.append(time.process_time() - started)
    return 1e3 * statistics.median(times[3:])


def keep(name: str, results: dict) -> None:
    """Keep the milliseconds of the benchmark `name`, with the machine they were measured on."""
    content = {
        "command": f"OPENBLAS_NUM_THREADS=1 python benchmarks/{name}.py",
        "device": backend.describe(),
        "milliseconds": results,
    }
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    record.write(path, content)


if __name__ == "__main__":
    main()
