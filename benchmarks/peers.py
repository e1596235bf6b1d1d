"""Comparison of the test ELBO of a VAE on MNIST with that of pythae.

    pip install pythae && python benchmarks/peers.py --data_dir DIR

Both have the same latent dimensions, likelihood (Bernoulli of grey values), epochs, batch size,
seed and learning rate (constant; our default, with a falling rate, is a row of its own). The
networks are dense: each library's default, and ours with as many layers as theirs. pythae is
Chadebec et al. 2022, arXiv:2206.08309. Both bounds are measured here on the 10,000 test images,
with one draw for each. Results are kept in benchmarks/results/peers.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.data.datasets import load_dataset  # noqa: E402

import numpy as np  # noqa: E402
import record  # noqa: E402

KEPT = ROOT / "benchmarks" / "results" / "peers.json"
LATENT_DIMS, BATCHSIZE, RATE = 8, 256, 1e-3
OURS = {
    "ours, as many layers": "--num_layers 1 --lr_schedule constant",
    "ours, two layers": "--lr_schedule constant",
    "ours, default": "",
}
TEST_BATCH = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    results = {f"pythae {version('pythae')}": of_pythae(args)}
    results |= {name: of_train(options, args) for name, options in OURS.items()}
    for name, found in results.items():
        print(f"{name}: {found}", flush=True)
    content = {"epochs": args.epochs, "batchsize": BATCHSIZE, "seed": args.seed, "models": results}
    record.write(KEPT, content)


def of_pythae(args: argparse.Namespace) -> dict[str, Any]:
    """Train pythae's VAE with its default encoder and decoder, by its own trainer."""
    import torch
    from pythae.models import VAE, VAEConfig
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    train, test = load_dataset("mnist", args.data_dir)
    images, held_out = (
        np.moveaxis(split.images, -1, 1).astype(np.float32) / 255 for split in (train, test)
    )
    config = VAEConfig(input_dim=images.shape[1:], latent_dim=LATENT_DIMS)
    config.reconstruction_loss = "bce"
    with tempfile.TemporaryDirectory() as work:
        training = BaseTrainerConfig(
            output_dir=work, num_epochs=args.epochs, learning_rate=RATE, seed=args.seed,
            per_device_train_batch_size=BATCHSIZE, no_cuda=True,
        )  # fmt: skip
        torch.manual_seed(args.seed)
        model = VAE(config)
        started = time.perf_counter()
        TrainingPipeline(training_config=training, model=model)(train_data=images)
        seconds = time.perf_counter() - started
    model = model.cpu().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        batches = (held_out[i : i + TEST_BATCH] for i in range(0, len(held_out), TEST_BATCH))
        losses = [float(model({"data": torch.from_numpy(batch)}).loss) for batch in batches]
    parameters = sum(each.numel() for each in model.parameters())
    return {"elbo": -float(np.mean(losses)), "parameters": parameters, "seconds": round(seconds)}


def of_train(options: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the results of a run of train.py."""
    with tempfile.TemporaryDirectory() as work:
        command = f"train.py --model vae --arch mlp --dataset mnist --latent_dims {LATENT_DIMS} "
        command += f"--epochs {args.epochs} --batchsize {BATCHSIZE} --lr {RATE} {options} "
        command += f"--seed {args.seed} --cpu --data_dir {args.data_dir} --outdir {work}/run"
        said = subprocess.run([sys.executable, *command.split()], cwd=ROOT, check=True,
                              stdout=subprocess.PIPE, text=True).stdout  # fmt: skip
        metrics = json.loads((Path(work) / "run/metrics.json").read_text())
    (parameters,) = (
        line.split()[-1] for line in said.splitlines() if "trainable parameters" in line
    )
    return {
        "elbo": metrics["generative"]["elbo"],
        "parameters": int(parameters.replace(",", "")),
        "seconds": round(metrics["training_seconds"]),
    }


if __name__ == "__main__":
    main()
