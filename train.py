"""Train a VAE or a Gaussian-mixture VAE on unlabelled images.

python train.py --latent_dims 8 --K 10
"""

import argparse
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_gmvae import backend, cli, distributed, memory, options, plots, profiling, tables
from mlx_gmvae.assignments import Assignments
from mlx_gmvae.config import ModelConfig, TrainConfig, training_of
from mlx_gmvae.data.splits import Dataset, Splits
from mlx_gmvae.errors import InputError
from mlx_gmvae.evaluation import generative_scores, pair_scores, responsibilities
from mlx_gmvae.models import LatentVariableModel, MixtureModel, build_model
from mlx_gmvae.mutual import compare_iterations
from mlx_gmvae.runs import RunFolder, run_name
from mlx_gmvae.summary import SummaryWriter
from mlx_gmvae.training import Trainer

import mlx.core as mx
import numpy as np

# Small sets get smaller batches and more epochs, for enough steps.
FEWEST_STEPS_PER_EPOCH = 20
FEWEST_STEPS = 1600
SMALLEST_BATCH = 32
SECONDS_BETWEEN_SAVES = 10
PICTURES_PER_RUN = 10


@dataclass
class Run:
    """What is trained on what, and where it is written."""

    folder: RunFolder
    splits: Splits
    data: dict[str, Any]  # dataset, image_size, classes
    trainer: Trainer
    summary: SummaryWriter | None = None


@cli.script
def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    backend.select_device(args.cpu)
    distributed.quieten()
    if args.seeds:
        return train_seeds(args)
    if args.profile or args.benchmark_devices:
        return measure_speed(args)
    run = resumed_run(args) if args.resume else new_run(args)
    print_summary(run)
    train(run, args.save_every)
    if not run.trainer.is_done:
        print(f"interrupted; continue with: python train.py --resume {run.folder.path}")
        return cli.EXIT_INTERRUPTED
    if distributed.is_first():
        measure(run)
    return 0


def train(run: Run, save_every: int | None) -> None:
    """Train to the last epoch or to Ctrl-C; what was reached is saved either way."""
    trainer, test_images = run.trainer, run.splits.test.images
    saved = time.monotonic()
    every = save_every or max(1, trainer.config.epochs // PICTURES_PER_RUN)
    with cli.stop_on_interrupt() as stopped:
        for record in trainer.run(stopped):
            if not distributed.is_first():
                continue
            print(epoch_line(record), flush=True)
            if run.summary:
                run.summary.scalars(record, trainer.epoch)
            if trainer.is_done or trainer.epoch % every == 0:
                pictures = run.folder.save_pictures(trainer.model, test_images, trainer.epoch)
                if run.summary:
                    run.summary.pictures(pictures, trainer.epoch)
            if trainer.config.early_stopping and trainer.epoch == trainer.best_epoch:
                run.folder.save_best(trainer.model)
            if trainer.config.mutual_iterations is not None:
                save_iteration(run)
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                run.folder.save(trainer, run.data)
                saved = time.monotonic()
        if distributed.is_first():
            run.folder.save(trainer, run.data)
    if run.summary:
        run.summary.close()


def save_iteration(run: Run) -> None:
    """After the last epoch of an iteration of mutual learning, keep the model as it is."""
    trainer = run.trainer
    if trainer.epoch in trainer.config.refits:
        iteration = trainer.config.refits.index(trainer.epoch)
        run.folder.save_iteration(iteration, trainer.model, run.data, trainer.config)


def measure_speed(args: argparse.Namespace) -> int:
    """--profile and --benchmark_devices: measure, print, and train nothing."""
    if distributed.size() > 1 or args.resume or args.outdir:
        raise InputError(
            "--profile and --benchmark_devices take a new run, in one process, and write nothing; "
            "leave out --resume, --outdir and mlx.launch"
        )
    with tempfile.TemporaryDirectory() as folder:
        args.outdir = folder
        run = new_run(args)
        print_summary(run)
        if args.profile:
            print_phases(profiling.phases(run.trainer, run.splits.test.images), run.trainer)
        if args.benchmark_devices:
            print_devices(run)
    return 0


def print_phases(seconds: dict[str, float], trainer: Trainer) -> None:
    whole = sum(seconds.values())
    print(f"an epoch of {trainer.steps_per_epoch} steps: {whole:.2f} s")
    for name, value in seconds.items():
        print(f"  {name:<12}{value:9.2f} s {value / whole:7.1%}")


def print_devices(run: Run) -> None:
    model_config, config = run.trainer.model.config, run.trainer.config

    def make() -> Trainer:
        images, neighbours = run.splits.train.images, run.trainer.neighbours
        return Trainer(build_model(model_config), images, config, neighbours)

    for device in profiling.devices():
        name = "cpu" if device.type == mx.cpu else "gpu"
        print(f"{name}: {profiling.images_per_second(make, device):9.0f} images/s")
    if not backend.has_gpu():
        print("gpu: none that MLX can use on this machine")


def train_seeds(args: argparse.Namespace) -> int:
    """Train --seeds runs, each in a folder of its own; keep the one whose pair loss is lowest."""
    losses: dict[int, float] = {}
    parent = None
    first = args.seed or 0
    for seed in range(first, first + args.seeds):
        run = new_run(argparse.Namespace(**vars(args) | {"seed": seed}), parent)
        parent = parent or run.folder.path.parent
        print_summary(run)
        train(run, args.save_every)
        if not run.trainer.is_done:
            print(f"interrupted; the runs so far are in {parent}")
            return cli.EXIT_INTERRUPTED
        losses[seed] = measure(run)["pairs"]["pair_loss"]
    ranked = sorted(losses, key=losses.__getitem__)
    assert parent is not None
    RunFolder(parent).adopt(ranked[0])
    print("pair loss, lowest first: " + ", ".join(f"seed {s} {losses[s]:.4f}" for s in ranked))
    print(f"kept seed {ranked[0]} as {parent}/model.npz")
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
        "--save_every", type=int, metavar="EPOCHS",
        help="write pictures every so many epochs and at the end (default: ten times a run)",
    )  # fmt: skip
    group.add_argument("--resume", metavar="RUN", help="continue the run in this folder")
    group.add_argument(
        "--seeds", type=int, metavar="N",
        help="train N runs from --seed on and keep the one with the lowest pair loss (no labels)",
    )  # fmt: skip
    group.add_argument(
        "--summary", action="store_true",
        help="also write TensorBoard event files into the run's summary/ (pip install tensorboard)",
    )  # fmt: skip
    options.add_device_flags(parser)
    group = parser.add_argument_group("speed (nothing is trained)")
    group.add_argument(
        "--profile", action="store_true", help="print where the time of an epoch goes"
    )
    group.add_argument(
        "--benchmark_devices", action="store_true", help="time the model on the CPU and on the GPU"
    )
    args = parser.parse_args(argv)
    if args.save_every is not None:
        cli.require_at_least("save_every", args.save_every, 1)
    if args.seeds is not None:
        cli.require_at_least("seeds", args.seeds, 1)
        if distributed.size() > 1:
            raise InputError("--seeds trains in one process; start it without mlx.launch")
        if args.resume:
            raise InputError("--seeds cannot be resumed; --resume one of its runs")
    return args


def new_run(args: argparse.Namespace, parent: Path | None = None) -> Run:
    """A run in its own folder or, of several seeds, in a folder of its seed below `parent`."""
    splits, data = options.load_or_fall_back(args)
    *image_size, channels = splits.train.image_shape
    given = options.given_fields(ModelConfig, args)
    shape = {"image_size": image_size, "channels": channels}
    model_config = ModelConfig.from_dict(given | shape)
    for name in given:
        model_config.require_effect(name)
    given = options.given_fields(TrainConfig, args)
    train_config = for_set_size(TrainConfig.from_dict(given), splits.train, set(given))
    train_config = training_of(train_config, model_config, set(given))
    mx.random.seed(train_config.seed)
    model = build_model(model_config)
    if args.seeds and not train_config.pair_weight:
        raise InputError("--seeds needs the pair objective, which compares runs without labels")
    name = run_name(model_config, data["dataset"])
    if parent or not distributed.is_first():  # only the first process writes
        folder = RunFolder(parent or Path())
    else:
        folder = RunFolder.create(args.outdir, name, args.overwrite)
    if args.seeds:
        folder = folder.of_seed(train_config.seed)
    trainer = make_trainer(model, splits, train_config, folder)
    return Run(folder, splits, data, trainer, make_summary(args, folder))


def make_summary(args: argparse.Namespace, folder: RunFolder) -> SummaryWriter | None:
    wanted = args.summary and distributed.is_first()
    return SummaryWriter(folder.path / "summary") if wanted else None


def make_trainer(
    model: LatentVariableModel, splits: Splits, config: TrainConfig, folder: RunFolder
) -> Trainer:
    images = splits.train.images
    neighbours = None
    if config.pair_weight:
        k = min(config.neighbours, len(images) - 1)
        built = distributed.is_first()  # by one, for all
        neighbours = distributed.from_first(
            folder.load_neighbours(images, config)
            if built
            else np.empty((len(images), k), np.int32)
        )
    return Trainer(model, images, config, neighbours)


def resumed_run(args: argparse.Namespace) -> Run:
    given = options.given_fields(ModelConfig, args) | options.given_fields(TrainConfig, args)
    given |= {name: vars(args)[name] for name in ("dataset", "classes", "outdir")}
    fixed = [name for name in given if name != "epochs" and given[name] is not None]
    if fixed:
        raise InputError(f"--{fixed[0]} cannot change in a resumed run; only --epochs can")
    folder, saved = RunFolder.open(args.resume)
    splits = options.load_and_report(**saved.data, data_dir=args.data_dir)
    options.check_shape(splits.train, folder.state, saved.model)
    epochs = getattr(args, "epochs", saved.training.epochs)
    if saved.training.mutual_iterations is not None and epochs != saved.training.epochs:
        raise InputError("--epochs cannot change in a resumed vae-gmm: its iterations share them")
    train_config = TrainConfig.from_dict(saved.training.to_dict() | {"epochs": epochs})
    trainer = make_trainer(build_model(saved.model), splits, train_config, folder)
    folder.restore(trainer, saved)
    return Run(folder, splits, saved.data, trainer, make_summary(args, folder))


def for_set_size(config: TrainConfig, train: Dataset, given: set[str]) -> TrainConfig:
    """`config` with the default batch size and epochs, unless given, fitted to the set."""
    values, num_images = config.to_dict(), len(train)
    if "batchsize" not in given:
        largest = max(SMALLEST_BATCH, num_images // FEWEST_STEPS_PER_EPOCH)
        fitting = memory.fitting_batch(train.image_shape[:2])
        values["batchsize"] = min(config.batchsize, 2 ** int(math.log2(largest)), fitting)
    if "epochs" not in given:
        steps_per_epoch = max(1, num_images // values["batchsize"])
        values["epochs"] = max(config.epochs, math.ceil(FEWEST_STEPS / steps_per_epoch))
    return TrainConfig.from_dict(values)


def print_summary(run: Run) -> None:
    model, splits, config = run.trainer.model, run.splits, run.trainer.config
    cli.print_options(model.config.effective() | config.effective())
    print(backend.describe())
    parameters = sum(value.size for value in model.arrays().values())
    print(f"data: {splits.train.name}, {len(splits.train)} training and {len(splits.test)} test "
          f"images of {splits.train.image_shape}")  # fmt: skip
    print(f"run: {run.folder.path}")
    print(f"number of trainable parameters: {parameters:,}")
    batchsize = run.trainer.batchsize
    step = memory.step_bytes(model.config, config, batchsize, parameters)
    print(memory.describe(step, batchsize, splits.train.images))


def epoch_line(record: dict[str, float]) -> str:
    return (
        f"Epoch {record['epoch']:4.0f} | Loss {record['loss']:10.3f} | "
        f"Throughput {record['throughput']:8.0f} im/s | Time {record['seconds']:7.1f} s"
    )


def measure(run: Run) -> dict[str, Any]:
    """Measure the trained model; write metrics.json and the curves. Returns the metrics."""
    model, test, config = run.trainer.model, run.splits.test, run.trainer.config
    model.eval()
    if config.early_stopping:
        run.folder.load_best(model)
        print(f"kept the weights of epoch {run.trainer.best_epoch}, the best on held-out images")
    metrics: dict[str, Any] = {"split": "test", "images": len(test)}
    metrics["generative"] = generative_scores(model, test.images)
    cli.print_scores("test", metrics["generative"])
    if isinstance(model, MixtureModel):
        metrics |= Assignments(test, responsibilities(model, test.images)).scores()
        metrics["pairs"] = pair_scores(model, run.splits.train.images, config)
        cli.print_scores("training images, without labels", metrics["pairs"])
        if "clustering" in metrics:
            cli.print_scores("test clustering", metrics["clustering"])
    if config.mutual_iterations is not None:
        for row in compare_iterations(run.folder.path, len(config.refits), test):
            cli.print_scores(f"iteration {row.pop('iteration')}", row)
    history = run.trainer.history
    metrics["training_seconds"] = sum(record["seconds"] for record in history)
    run.folder.save(run.trainer, run.data, metrics)
    tables.write_json(run.folder.path / "metrics.json", metrics)
    names = [name for name in history[0] if name not in ("epoch", "throughput", "seconds")]
    curves = {name: {"": [record[name] for record in history]} for name in names}
    plots.save_curves(run.folder.path / "curves.png", curves, "epoch")
    print(f"saved model.npz, metrics.json, history.csv and pictures in {run.folder.path}")
    return metrics


if __name__ == "__main__":
    sys.exit(main())
