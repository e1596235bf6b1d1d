"""Kernels of a training step on a GPU, counted without a GPU.

    python benchmarks/graph.py

For a compiled step of 256 images, written as for a GPU, fused (as on Metal) and not fused (as on
CUDA), it counts:

- the primitives in the graph;
- the kernels that they launch: one for each primitive that is more than a view of an array, and one
  for each array that is concatenated;
- the distinct fused kernels among them, each of which is compiled once;
- how often in an epoch Python waits for the newest step, with nothing queued behind it.

Results are kept in benchmarks/results/graph.json, beside the earlier counts under "before".
"""

import collections
import json
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.config import ModelConfig, TrainConfig  # noqa: E402
from mlx_gmvae.device import backend  # noqa: E402
from mlx_gmvae.inputs import Batch  # noqa: E402
from mlx_gmvae.models import build_model  # noqa: E402
from mlx_gmvae.training.api import new_trainer  # noqa: E402
from mlx_gmvae.training.defaults import for_model  # noqa: E402
from mlx_gmvae.training.schedule import step_weights  # noqa: E402
from mlx_gmvae.training.trainer import Trainer  # noqa: E402

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
import record  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "graph.json"
EQUAL = {"balance": "uniform"}  # clusters of equal size, which need no sub-clusters
WORKLOADS: dict[str, tuple[dict, dict]] = {  # fields of ModelConfig and of TrainConfig
    "VAE conv": ({"model": "vae"}, {}),
    "GMVAE conv": ({}, {}),
    "GMVAE conv, no sub-clusters": ({}, EQUAL),
    "GMVAE mlp": ({"arch": "mlp"}, {}),
    "GMVAE mlp, no sub-clusters": ({"arch": "mlp"}, EQUAL),
    "GMVAE conv, bayes": ({"posterior": "bayes"}, {}),
    "VaDE conv": ({"model": "vade"}, {}),
}
BATCH = 256
FEW, STEPS = 8, 16  # images of a step, and steps, to count waits
# These usually make a view; only a reshape sometimes copies.
VIEWS = {
    *("AsStrided", "Broadcast", "CustomTransforms", "ExpandDims", "Flatten", "Reshape", "Slice"),
    *("Split", "Squeeze", "StopGradient", "Transpose", "Unflatten"),
}
NODE = re.compile(r'\{ (\d+) \[label ="([^"]+)", shape=rectangle\]')
INPUT = re.compile(r'"\w+" -> (\d+)')


def main() -> None:
    counts: dict[str, dict] = {}
    with backend.as_on_gpu():
        for mode, fuse in [("fused", "1"), ("not fused", "0")]:
            os.environ[backend.FUSE_VARIABLE] = fuse
            for name, (fields, options) in WORKLOADS.items():
                counts.setdefault(name, {})[mode] = count(fields, options)
    for name, (fields, options) in WORKLOADS.items():
        tiny = make_trainer(fields | {"arch": "mlp"}, options, FEW, FEW * STEPS)
        with backend.as_on_gpu():
            counts[name]["waits"] = waits(tiny)
    print(f"{'':<30}{'primitives':>12}{'launched':>10}{'distinct fused':>16}")
    for name, each in counts.items():
        for mode in ("fused", "not fused"):
            of_mode = each[mode]
            numbers = f"{of_mode['primitives']:>12}{of_mode['launched']:>10}"
            print(f"{name + ', ' + mode:<40}{numbers}{of_mode['distinct']:>12}")
        print(f"{'':<40}waits a step {each['waits']}")
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    content |= {"command": "python benchmarks/graph.py", "batch": BATCH, "now": counts}
    record.write(RESULTS, content)


def count(fields: dict, options: dict) -> dict[str, int]:
    names, inputs = primitives(make_trainer(fields, options, BATCH, 2 * BATCH))
    fused = [name for name in names.values() if name.startswith("Compiled")]
    launched = [1 for name in names.values() if name not in VIEWS and name != "Concatenate"]
    joined = [inputs[node] for node, name in names.items() if name == "Concatenate"]
    return {
        "primitives": len(names),
        "launched": len(launched) + sum(joined),
        "distinct": len(set(fused)),
    }


def make_trainer(fields: dict, options: dict, batchsize: int, num: int) -> Trainer:
    config = ModelConfig(**fields)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num, *config.image_shape), np.uint8)
    augment = "affine,strokes"
    asked = TrainConfig(batchsize=batchsize, epochs=2, augment=augment, **options)
    training = for_model(asked, config, set())
    neighbours = rng.integers(0, num, (num, 5)).astype(np.int32)
    return new_trainer(build_model(config), images, training, neighbours)


def primitives(trainer: Trainer) -> tuple[dict[str, str], collections.Counter[str]]:
    """Return the name and the number of input arrays of each node in the graph of a step."""
    trainer.trained.train()
    step, captured = trainer.compiled_step()
    mx.eval(captured)
    x = mx.array(trainer.images[:BATCH])
    pairs = x if trainer.objective.pairs else None
    answers = step(Batch(x, pairs), step_weights(trainer.config, 0), mx.array(0.0))
    arrays = [each for _, each in tree_flatten([answers, captured]) if isinstance(each, mx.array)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.dot"
        mx.export_to_dot(str(path), *arrays)
        text = path.read_text()
    return dict(NODE.findall(text)), collections.Counter(INPUT.findall(text))


def waits(trainer: Trainer) -> float:
    """Return how often per step Python waits for the step that was started last."""
    evaluate, start = mx.eval, mx.async_eval
    started: list = []
    waited = 0

    def counted_eval(*arrays) -> None:
        nonlocal waited
        waited += not any(arrays[0] is each for each in started[:-1])
        evaluate(*arrays)

    def counted_start(*arrays) -> None:
        started.append(arrays[0])
        start(*arrays)

    mx.eval, mx.async_eval = counted_eval, counted_start
    try:
        mx.disable_compile()  # waits do not depend on compiling, and g++ would take minutes
        list(trainer.run())
    finally:
        mx.eval, mx.async_eval = evaluate, start
        mx.enable_compile()
    return waited / trainer.steps_per_epoch / trainer.config.epochs


if __name__ == "__main__":
    main()
