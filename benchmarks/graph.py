"""What a training step on a GPU asks of it, counted without one.

    python benchmarks/graph.py

Primitives in the graph of a compiled step, written and fused as for a GPU; how many of them are
more than another view of an array, and so launch a kernel or more; and how often in an epoch
Python waits for the newest step, with nothing queued behind it. Kept in
benchmarks/results/graph.json, beside what was counted "before".
"""

import collections
import json
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
from mlx.utils import tree_flatten  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "graph.json"
WORKLOADS = {
    "VAE conv": {"model": "vae"},
    "GMVAE conv": {},
    "GMVAE mlp": {"arch": "mlp"},
    "GMVAE conv, bayes": {"posterior": "bayes"},
    "VaDE conv": {"model": "vade"},
}
BATCH = 256
FEW, STEPS = 8, 16  # images in a step, and steps, to see where Python waits
# As a rule these only describe an array anew; a reshape now and then copies.
VIEWS = {
    *("AsStrided", "Broadcast", "CustomTransforms", "ExpandDims", "Flatten", "Reshape", "Slice"),
    *("Split", "Squeeze", "StopGradient", "Transpose", "Unflatten"),
}
NODE = re.compile(r'\{ \d+ \[label ="([^"]+)", shape=rectangle\]')


def main() -> None:
    with backend.as_on_gpu():
        counts = {name: count(fields) for name, fields in WORKLOADS.items()}
    print(f"{'':<20}{'primitives':>12}{'launched':>10}{'waits a step':>14}")
    for name, each in counts.items():
        print(f"{name:<20}{each['primitives']:>12}{each['launched']:>10}{each['waits']:>14}")
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    content |= {"command": "python benchmarks/graph.py", "batch": BATCH, "now": counts}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


def count(fields: dict) -> dict:
    nodes = collections.Counter(primitives(make_trainer(fields, BATCH, 2 * BATCH)))
    return {
        "primitives": sum(nodes.values()),
        "launched": sum(num for name, num in nodes.items() if name not in VIEWS),
        "waits": waits(make_trainer(fields | {"arch": "mlp"}, FEW, FEW * STEPS)),
        "most": dict(nodes.most_common(12)),
    }


def make_trainer(fields: dict, batchsize: int, num: int) -> Trainer:
    config = ModelConfig(**fields)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num, *config.image_shape), np.uint8)
    training = for_model(
        TrainConfig(batchsize=batchsize, epochs=2, augment="affine,strokes"), config, set()
    )
    neighbours = rng.integers(0, num, (num, 5)).astype(np.int32)
    return new_trainer(build_model(config), images, training, neighbours)


def primitives(trainer: Trainer) -> list[str]:
    """The names in the graph of one step; what was fused counts as one, "Compiled"."""
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
        return [re.sub("^Compiled.+", "Compiled", name) for name in NODE.findall(path.read_text())]


def waits(trainer: Trainer) -> float:
    """How often a step Python waits in an epoch for what was started last."""
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
        mx.disable_compile()  # what is counted is not the step, and g++ would take minutes
        list(trainer.run())
    finally:
        mx.eval, mx.async_eval = evaluate, start
        mx.enable_compile()
    return waited / trainer.steps_per_epoch / trainer.config.epochs


if __name__ == "__main__":
    main()
