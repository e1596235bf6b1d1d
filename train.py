"""Train a VAE or a Gaussian-mixture VAE on unlabelled images.

python train.py --latent_dims 8 --K 10
"""

import argparse
import math
import sys
import time
from dataclasses import dataclass
from typing import Any

from mlx_gmvae import backend, cli, figures, options
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data.datasets import Splits, load_dataset
from mlx_gmvae.errors import InputError
from mlx_gmvae.evaluation import cluster_scores, generative_scores
from mlx_gmvae.models import MixtureModel, build_model
from mlx_gmvae.runs import RunFolder, run_name
from mlx_gmvae.training import Trainer

import mlx.core as mx

FEWEST_STEPS = 1500  # small sets get as many epochs as these take
SECONDS_BETWEEN_SAVES = 10


@dataclass
class Run:
    """What is trained on what, and where it is written."""

    folder: RunFolder
    splits: Splits
    data: dict[str, Any]  # dataset, image_size, classes
    trainer: Trainer


@cli.script
def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    backend.select_device(args.cpu)
    run = resumed_run(args) if args.resume else new_run(args)
    print_summary(run)

    trainer, test_images = run.trainer, run.splits.test.images
    saved = time.monotonic()
    with cli.stop_on_interrupt() as stopped:
        for record in trainer.run(stopped):
            print(epoch_line(record), flush=True)
            is_last = trainer.epoch == trainer.config.epochs
            if is_last or trainer.epoch % args.save_every == 0:
                run.folder.save_pictures(trainer.model, test_images, trainer.epoch)
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                run.folder.save(trainer, run.data)
                saved = time.monotonic()
        run.folder.save(trainer, run.data)
    if trainer.epoch < trainer.config.epochs:
        print(f"interrupted; continue with: python train.py --resume {run.folder.path}")
        return cli.EXIT_INTERRUPTED
    measure(run)
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser("Train a VAE or a Gaussian-mixture VAE on unlabelled images.")
    options.add_data_flags(parser, "mnist, or the bundled digits where it cannot be downloaded")
    options.add_model_flags(parser)
    options.add_training_flags(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--outdir", help="run folder (default: results/<model>_<data>_...)")
    group.add_argument("--overwrite", action="store_true", help="replace the run in that folder")
    group.add_argument(
        "--save_every", type=int, default=10, metavar="EPOCHS",
        help="write pictures every so many epochs and at the end (default: 10)",
    )  # fmt: skip
    group.add_argument("--resume", metavar="RUN", help="continue the run in this folder")
    options.add_device_flags(parser)
    args = parser.parse_args(argv)
    cli.require_at_least("save_every", args.save_every, 1)
    return args


def new_run(args: argparse.Namespace) -> Run:
    splits, data = options.load_or_fall_back(args)
    *image_size, channels = splits.train.image_shape
    given = options.given_fields(ModelConfig, args)
    shape = {"image_size": image_size, "channels": channels}
    model_config = ModelConfig.from_dict(given | shape)
    for name in given:
        model_config.require_effect(name)
    train_config = TrainConfig.from_dict(options.given_fields(TrainConfig, args))
    if not hasattr(args, "epochs"):
        train_config = with_default_epochs(train_config, len(splits.train))
    mx.random.seed(train_config.seed)
    trainer = Trainer(build_model(model_config), splits.train.images, train_config)
    name = run_name(model_config, data["dataset"])
    return Run(RunFolder.create(args.outdir, name, args.overwrite), splits, data, trainer)


def resumed_run(args: argparse.Namespace) -> Run:
    given = options.given_fields(ModelConfig, args) | options.given_fields(TrainConfig, args)
    given |= {name: vars(args)[name] for name in ("dataset", "classes", "outdir")}
    fixed = [name for name in given if name not in ("epochs", "seed") and given[name] is not None]
    if fixed:
        raise InputError(f"--{fixed[0]} cannot change in a resumed run; only --epochs can")
    folder, saved = RunFolder.open(args.resume)
    splits = load_dataset(**saved.data, data_dir=args.data_dir)
    options.check_shape(splits.train, folder.state, saved.model)
    epochs = getattr(args, "epochs", saved.training.epochs)
    train_config = TrainConfig.from_dict(saved.training.to_dict() | {"epochs": epochs})
    trainer = Trainer(build_model(saved.model), splits.train.images, train_config)
    folder.restore(trainer, saved)
    return Run(folder, splits, saved.data, trainer)


def with_default_epochs(config: TrainConfig, num_images: int) -> TrainConfig:
    steps_per_epoch = max(1, num_images // config.batchsize)
    epochs = max(config.epochs, math.ceil(FEWEST_STEPS / steps_per_epoch))
    return TrainConfig.from_dict(config.to_dict() | {"epochs": epochs})


def print_summary(run: Run) -> None:
    model, splits = run.trainer.model, run.splits
    cli.print_options(model.config.effective() | run.trainer.config.to_dict())
    print(backend.describe())
    parameters = sum(value.size for value in model.arrays().values())
    print(f"data: {splits.train.name}, {len(splits.train)} training and {len(splits.test)} test "
          f"images of {splits.train.image_shape}")  # fmt: skip
    print(f"run: {run.folder.path}")
    print(f"number of trainable parameters: {parameters:,}")


def epoch_line(record: dict[str, float]) -> str:
    return (
        f"Epoch {record['epoch']:4.0f} | Loss {record['loss']:10.3f} | "
        f"Throughput {record['throughput']:8.0f} im/s | Time {record['seconds']:7.1f} s"
    )


def measure(run: Run) -> None:
    """Measure the trained model on the test split; write metrics.json and the curves."""
    model, test = run.trainer.model, run.splits.test
    model.eval()
    metrics: dict[str, Any] = {"split": "test", "images": len(test)}
    metrics["generative"] = generative_scores(model, test.images)
    cli.print_scores("test", metrics["generative"])
    if isinstance(model, MixtureModel) and test.labels is not None:
        metrics["clustering"] = cluster_scores(model, test)
        cli.print_scores("test clustering", metrics["clustering"])
    history = run.trainer.history
    metrics["training_seconds"] = sum(record["seconds"] for record in history)
    run.folder.save(run.trainer, run.data, metrics)
    cli.write_json(run.folder.path / "metrics.json", metrics)
    figures.save_curves(run.folder.path / "curves.png", history)
    print(f"saved model.npz, metrics.json, history.csv and pictures in {run.folder.path}")


if __name__ == "__main__":
    sys.exit(main())
