"""Train a VAE or a Gaussian-mixture VAE on unlabelled images.

    python train.py --latent_dims 8 --K 10
"""

import argparse
import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import Any

import mlx_gmvae.backend as backend
from mlx_gmvae import cli

SMALLEST_STEPS = 1500  # small sets get more epochs than the default
FALLBACK = {"dataset": "digits", "image_size": [28, 28]}
SECONDS_BETWEEN_SAVES = 10


@cli.script
def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    backend.select_device(args.cpu)

    import mlx.core as mx
    from mlx.utils import tree_flatten

    from mlx_gmvae.models import build_model
    from mlx_gmvae.training import Trainer

    run, model_config, train_config, data, splits, info = prepare(args)
    mx.random.seed(train_config.seed)
    model = build_model(model_config)
    trainer = Trainer(model, splits.train.images, train_config)
    if info:
        run.restore(trainer, info)

    parameters = sum(value.size for _, value in tree_flatten(model.trainable_parameters()))
    cli.print_options(model_config.to_dict() | train_config.to_dict() | {"run": str(run.path)})
    print(backend.describe())
    print(f"data: {len(splits.train)} training and {len(splits.test)} test images of "
          f"{splits.train.image_shape} from {splits.train.name}")  # fmt: skip
    print(f"number of trainable parameters: {parameters:,}")

    saved = time.monotonic()
    with cli.stop_on_interrupt() as stopped:
        for record in trainer.run(stopped):
            print(epoch_line(record), flush=True)
            if trainer.epoch % args.save_every == 0 or trainer.epoch == train_config.epochs:
                model.eval()
                run.save_pictures(model, splits.test.images, trainer.epoch)
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                run.save(trainer, data)
                saved = time.monotonic()
        run.save(trainer, data)
        if trainer.epoch < train_config.epochs:
            print(f"interrupted; continue with: python train.py --resume {run.path}")
            return cli.EXIT_INTERRUPTED
    finish(run, trainer, data, splits)
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    from mlx_gmvae.config import ARCHS, LIKELIHOODS, MODELS, POSTERIORS, ModelConfig, TrainConfig

    parser = cli.Parser("Train a VAE or a Gaussian-mixture VAE on unlabelled images.")
    cli.add_data_flags(parser, "mnist, or the bundled digits if it cannot be downloaded")

    def add(group: Any, config: type, name: str, text: str, **options: Any) -> None:
        default = getattr(config, name)
        shown = f" (default: {default})" if default is not None else ""
        group.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text + shown, **options)

    group = parser.add_argument_group("model")
    add(group, ModelConfig, "model", "which model", choices=MODELS)
    add(group, ModelConfig, "arch", "convolutional or dense networks", choices=ARCHS)
    add(group, ModelConfig, "latent_dims", "dimensions of z", type=int, metavar="D")
    add(group, ModelConfig, "K", "number of components (gmvae)", type=int)
    add(group, ModelConfig, "w_dims", "dimensions of the style w (gmvae)", type=int, metavar="M")
    add(
        group, ModelConfig, "posterior", choices=POSTERIORS,
        text="q(y|.) of the gmvae: the encoder's own, or Bayes' rule at z and w",
    )  # fmt: skip
    add(group, ModelConfig, "likelihood", "of the pixels given z", choices=LIKELIHOODS)
    add(group, ModelConfig, "sigma", "of the Gaussian likelihood", type=float)
    add(
        group, ModelConfig, "max_filters", type=int, metavar="N",
        text="channels of the coarsest conv stage; finer ones have half, down to 16",
    )  # fmt: skip
    add(group, ModelConfig, "hidden_dims", "width of mlp layers", type=int, metavar="N")
    add(
        group, ModelConfig, "num_layers", type=int, metavar="N",
        text="conv stages (default: by image size) or mlp hidden layers (default: 2)",
    )  # fmt: skip
    add(group, ModelConfig, "mc_samples", "draws of z and w per image", type=int, metavar="N")

    group = parser.add_argument_group("training")
    group.add_argument(
        "--epochs", type=int, help=f"(default: {TrainConfig.epochs}, or as many as "
        f"{SMALLEST_STEPS} steps take)",
    )  # fmt: skip
    add(group, TrainConfig, "batchsize", "images per step", type=int, metavar="N")
    add(group, TrainConfig, "lr", "Adam's learning rate", type=float)
    add(group, TrainConfig, "recon_weight", "weight of the reconstruction", type=float)
    add(group, TrainConfig, "kl_weight", "weight of the KL terms", type=float)
    add(
        group, TrainConfig, "kl_anneal", type=int, metavar="EPOCHS",
        text="raise the KL weight from 0 over so many epochs",
    )  # fmt: skip
    add(group, TrainConfig, "clip_grad", "largest gradient norm", type=float, metavar="NORM")

    group = parser.add_argument_group("output")
    group.add_argument("--outdir", help="run folder (default: results/<model>_<data>_...)")
    group.add_argument("--overwrite", action="store_true", help="replace the run in that folder")
    group.add_argument(
        "--save_every", type=int, default=10, metavar="EPOCHS",
        help="write pictures every so many epochs and at the end (default: 10)",
    )  # fmt: skip
    group.add_argument("--resume", metavar="RUN", help="continue the run in this folder")
    cli.add_device_flags(parser)
    args = parser.parse_args(argv)
    if args.save_every < 1:
        raise cli.InputError(f"--save_every is {args.save_every}; it must be at least 1")
    return args


def prepare(args: argparse.Namespace) -> tuple[Any, ...]:
    """The run folder, configurations, data and saved state of a new or a resumed run."""
    from mlx_gmvae.config import ModelConfig
    from mlx_gmvae.data.datasets import load_dataset
    from mlx_gmvae.runs import RunFolder, resumed_training, run_name

    given = vars(args)
    model_flags = given_fields(ModelConfig, given) - {"image_size"}
    if args.resume:
        refuse_with_resume(args, model_flags)
        run, info = RunFolder.open(args.resume)
        data = info.get("data") or {}
        splits = load_dataset(
            data["dataset"], args.data_dir, data.get("image_size"), data.get("classes")
        )
        model_config = ModelConfig.from_dict(info["model"])
        cli.check_shape(splits.train, str(run.state), model_config)
        return run, model_config, resumed_training(info, args.epochs), data, splits, info

    image_size = tuple(args.image_size) if args.image_size else None
    data = {"dataset": args.dataset, "image_size": image_size, "classes": args.classes}
    splits = load_or_fall_back(data, args)
    *image_shape, channels = splits.train.image_shape
    values = {name: given[name] for name in model_flags}
    values |= {"image_size": tuple(image_shape), "channels": channels}
    model_config = ModelConfig(**values)
    for name in model_flags:
        cli.check_flag_applies(name, model_config)
    train_config = make_train_config(given, len(splits.train))
    run = RunFolder.create(args.outdir, run_name(model_config, data["dataset"]), args.overwrite)
    return run, model_config, train_config, data, splits, None


def load_or_fall_back(data: dict[str, Any], args: argparse.Namespace) -> Any:
    """Load what `data` names. With no --dataset: MNIST, or offline the bundled digits."""
    from mlx_gmvae.data.datasets import load_dataset
    from mlx_gmvae.data.download import DownloadError
    from mlx_gmvae.data.published import default_data_dir

    place = Path(args.data_dir).expanduser() if args.data_dir else default_data_dir()
    source = data["dataset"] or "mnist"
    try:
        splits = load_dataset(source, place, data["image_size"], data["classes"])
        data["dataset"] = source
    except DownloadError as error:
        if data["dataset"]:
            raise cli.InputError(
                f"{error}; put the four {source} files (train-images-idx3-ubyte.gz, ...) "
                f"into {place / source}"
            ) from None
        print(f"{error}: training on scikit-learn's 1,797 handwritten digits instead")
        data |= FALLBACK | ({"image_size": data["image_size"]} if data["image_size"] else {})
        splits = load_dataset("digits", place, data["image_size"], data["classes"])
    return splits


def make_train_config(given: dict[str, Any], num_images: int) -> Any:
    """The training options, with enough epochs for a small set unless --epochs says."""
    from mlx_gmvae.config import TrainConfig

    values = {name: given[name] for name in given_fields(TrainConfig, given)}
    if values["epochs"] is None:
        values["epochs"] = TrainConfig.epochs
        config = TrainConfig(**values)
        steps = max(1, num_images // config.batchsize)
        values["epochs"] = max(TrainConfig.epochs, math.ceil(SMALLEST_STEPS / steps))
    return TrainConfig(**values)


def given_fields(config: type, given: dict[str, Any]) -> set[str]:
    """Names of a configuration's fields that the command line set."""
    return {field.name for field in dataclasses.fields(config)} & set(given)


def refuse_with_resume(args: argparse.Namespace, model_flags: set[str]) -> None:
    from mlx_gmvae.config import TrainConfig

    fixed = model_flags | (given_fields(TrainConfig, vars(args)) - {"epochs", "seed"})
    fixed |= {name for name in ("dataset", "image_size", "classes", "outdir") if vars(args)[name]}
    if fixed:
        names = ", ".join(f"--{name}" for name in sorted(fixed))
        raise cli.InputError(f"{names} cannot change in a resumed run; only --epochs can")


def epoch_line(record: dict[str, float]) -> str:
    return (
        f"Epoch {record['epoch']:4.0f} | Loss {record['loss']:10.3f} | "
        f"Throughput {record['throughput']:8.0f} im/s | Time {record['seconds']:7.1f} s"
    )


def finish(run: Any, trainer: Any, data: dict[str, Any], splits: Any) -> None:
    """Measure the trained model on the test split; write metrics.json and the curves."""
    from mlx_gmvae import figures
    from mlx_gmvae.evaluation import cluster_scores, generative_scores
    from mlx_gmvae.models import MixtureModel

    model = trainer.model
    model.eval()
    metrics: dict[str, Any] = {"split": "test", "images": len(splits.test)}
    metrics["generative"] = generative_scores(model, splits.test.images)
    cli.print_scores("test", metrics["generative"])
    if isinstance(model, MixtureModel) and splits.test.labels is not None:
        metrics["clustering"] = cluster_scores(model, splits.test)
        cli.print_scores("test clustering", metrics["clustering"])
    metrics["training_seconds"] = sum(record["seconds"] for record in trainer.history)
    run.save(trainer, data, **metrics)
    cli.write_json(run.path / "metrics.json", metrics)
    figures.save_curves(run.path / "curves.png", trainer.history)
    print(f"saved {run.model}, metrics.json, history.csv, samples.png and reconstructions/")


if __name__ == "__main__":
    sys.exit(main())
