"""Time per pixel from 28 to 512 pixels a side, memory over 1,000 steps, and loss.

    OPENBLAS_NUM_THREADS=1 python benchmarks/scaling.py

The loss is compared with that of the plain formulation after the same epochs. Times are processor
time, so that other work on the machine matters less. Results are kept in
benchmarks/results/scaling.json.
"""

import json
import resource
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import record
from throughput import ROOT, mlx_step, use_plain_formulation

SIDES = (28, 64, 128, 256, 512)
PIXELS = 1 << 18  # in a batch
STEPS = 1000


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(losses(sys.argv[1])))
        return
    memory = resident_memory()  # first, since a peak is that of the whole process
    sizes = {str(side): time_per_image(side) for side in SIDES}
    print(f"{'side':>6}{'ms/image':>10}{'ns/pixel':>10}")
    for side, milliseconds in sizes.items():
        print(f"{side:>6}{milliseconds:>10.2f}{1e6 * milliseconds / int(side) ** 2:>10.0f}")
    print(", ".join(f"{value:.0f} MB after {step} steps" for step, value in memory.items()))
    loss = {}
    for form in ("ours", "plain"):
        command = [sys.executable, __file__, form]
        answer = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        loss[form] = json.loads(answer)
        print(f"loss after each epoch, {form:<6}" + " ".join(f"{x:8.3f}" for x in loss[form]))
    content = {
        "command": "OPENBLAS_NUM_THREADS=1 python benchmarks/scaling.py",
        "milliseconds_per_image": sizes,
        "resident_megabytes_after_steps": memory,
        "loss_after_epochs": loss,
    }
    path = ROOT / "benchmarks" / "results" / "scaling.json"
    record.write(path, content)


def time_per_image(side: int) -> float:
    """Return the processor milliseconds an image of a training step of a three-stage VAE."""
    fields = {"model": "vae", "image_size": (side, side), "num_layers": 3}
    batchsize = max(1, PIXELS // side**2)
    step, _ = mlx_step(fields, batchsize, "ours")
    for number in range(3):
        step(number)
    started, steps = time.process_time(), 0
    while time.process_time() - started < 2:
        step(steps)
        steps += 1
    return round(1e3 * (time.process_time() - started) / steps / batchsize, 3)


def resident_memory() -> dict[int, float]:
    """Return peak resident memory in megabytes after some steps of the default GMVAE."""
    step, _ = mlx_step({"image_size": (16, 16)}, 64, "ours")
    peaks = {}
    for number in range(STEPS + 1):
        step(number)
        if number in (10, 100, 300, STEPS):
            peaks[number] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return peaks


def losses(form: str) -> list[float]:
    """Return the losses of five epochs of the default GMVAE on the bundled digits, seed 0."""
    from mlx_gmvae.config import ModelConfig, TrainConfig
    from mlx_gmvae.data.datasets import load_dataset
    from mlx_gmvae.models import build_model
    from mlx_gmvae.training.api import new_trainer

    import mlx.core as mx

    if form == "plain":
        use_plain_formulation()
    images = load_dataset("digits", image_size=(28, 28)).train.images
    mx.random.seed(0)
    model = build_model(ModelConfig())
    trainer = new_trainer(model, images, TrainConfig(epochs=5, batchsize=64))
    return [round(record["loss"], 3) for record in islice(trainer.run(), 5)]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
