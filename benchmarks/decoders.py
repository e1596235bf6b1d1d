"""Reconstruction by decoders of several likelihoods and widths, trained for the same time.

    python benchmarks/decoders.py --data_dir DIR --workdir W
    python benchmarks/decoders.py --data_dir DIR --workdir W --numbers       for assets/numbers.png

Plain VAEs of Frey faces, photographs of 32x32 and crops of 128x128 of the photographs that come
with scikit-image and scikit-learn, each trained for the same processor seconds. Test bits per
dimension are those of a lossless code; where the likelihood is not logistic, they are computed
under a logistic whose scale fits the reconstructions of training images best. Results are kept in
benchmarks/results/decoders.json, with decoders.jpg beside it and larger pictures in W. --numbers
draws photographs above their reconstructions from 8, 32 and 128 latent dimensions, with a logistic
likelihood and the same time for each.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
KEPT = ROOT / "benchmarks" / "results" / "decoders.json"

import record  # noqa: E402
import sets  # noqa: E402

CROPS, SIDE = 2400, 128
SETS = {"frey": (8, 30), "photos": (32, 45), "crops": (64, 60)}  # latent_dims, seconds
VARIANTS = {
    "bernoulli": {},
    "gaussian, sigma 0.1": {"likelihood": "gaussian", "sigma": 0.1},
    "logistic": {"likelihood": "logistic"},
    "logistic, max_filters 128": {"likelihood": "logistic", "max_filters": 128},
}
NUMBERS = (8, 32, 128)
WIDTH = 640  # of the picture of all variants
PICTURED = np.arange(0, 2400, 240)
SCALES = np.exp(np.arange(-5, -1, 0.1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, default=ROOT / "results" / "decoders")
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--numbers", action="store_true")
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    if args.numbers:
        return picture_numbers(args)
    for name in args.only:
        for variant, options in VARIANTS.items():
            kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
            if variant in kept.get(name, {}):
                continue
            kept.setdefault(name, {})[variant] = measured(name, variant, options, args)
            record.write(KEPT, kept, [f"{name}, {variant}"])
            print(f"{name}, {variant}: {kept[name][variant]}", flush=True)
    save_side_by_side(args.workdir)


def picture_numbers(args: argparse.Namespace) -> None:
    """Draw photographs above their reconstructions from 8, 32 and 128 latent dimensions."""
    from mlx_gmvae.evaluation.scores import reconstruct
    from mlx_gmvae.report.figures import save_grid, to_uint8

    _, test = images_of("photos", args)
    some = test.images[PICTURED]
    rows = [some]
    for dims in NUMBERS:
        model, _ = trained("photos", {"likelihood": "logistic", "latent_dims": dims}, args, 180)
        rows.append(to_uint8(reconstruct(model, some)))
    save_grid(ROOT / "assets" / "numbers.png", np.concatenate(rows), len(some), 64)


def images_of(name: str, args: argparse.Namespace):  # type: ignore[no-untyped-def]
    from mlx_gmvae.data.datasets import load_dataset

    return load_dataset(str(source(name, args)), args.data_dir)


def measured(name: str, variant: str, options: dict, args: argparse.Namespace) -> dict:
    """Train one model and evaluate it on test images."""
    from mlx_gmvae.device.randomness import random_rows
    from mlx_gmvae.evaluation.scores import generative_scores, reconstruct
    from mlx_gmvae.report.figures import interleave, save_grid

    train, test = images_of(name, args)
    started = time.process_time()
    model, epochs = trained(name, options, args, SETS[name][1])
    scores = generative_scores(model, test.images)
    some = test.images[random_rows(len(test), 16)]
    pairs = interleave(some, reconstruct(model, some), 8)
    save_grid(args.workdir / f"{name}_{variant.replace(' ', '_')}.png", pairs, 8)
    return {
        "latent_dims": model.config.latent_dims,
        "epochs": epochs,
        "processor_seconds": round(time.process_time() - started),
        "bits_per_dim": round(lossless_bits(model, train.images, test.images), 3),
        "mse": round(scores["mse"], 5),
        "ssim": round(scores["ssim"], 3),
        "kl_z": round(scores["kl_z"], 1),
    }


def trained(name: str, options: dict, args: argparse.Namespace, seconds: float):  # type: ignore[no-untyped-def]
    """Return a plain VAE trained for `seconds` of processor time, and the number of epochs."""
    from mlx_gmvae import ModelConfig, TrainConfig
    from mlx_gmvae.device import backend
    from mlx_gmvae.models import build_model
    from mlx_gmvae.training.api import new_trainer
    from mlx_gmvae.training.defaults import for_model

    import mlx.core as mx

    backend.keep_freed_memory()
    train, _ = images_of(name, args)
    height, width, channels = train.image_shape
    dims = SETS[name][0]
    config = ModelConfig.from_dict(
        {"model": "vae", "latent_dims": dims, "image_size": (height, width), "channels": channels}
        | options
    )
    mx.random.seed(0)
    model = build_model(config)
    batchsize = 32 if name == "crops" else 64
    trial = for_model(TrainConfig(epochs=1, batchsize=batchsize, pair_weight=0.0), config, set())
    steps = len(train) // batchsize
    epochs = max(1, round(seconds / (steps * seconds_per_step(model, train.images, trial))))
    training = TrainConfig.from_dict(trial.to_dict() | {"epochs": epochs})
    mx.random.seed(0)
    model = build_model(config)
    for _ in new_trainer(model, train.images, training).run():
        pass
    model.eval()
    return model, epochs


def save_side_by_side(workdir: Path) -> None:
    """Save a row of test images of each set above a row of each variant's reconstructions."""
    from PIL import Image

    rows = []
    for name in SETS:
        pictures = [Image.open(workdir / f"{name}_{v.replace(' ', '_')}.png") for v in VARIANTS]
        for number, picture in enumerate([pictures[0], *pictures]):
            width, height = picture.size
            top = 0 if number == 0 else height // 4  # originals are above reconstructions
            row = picture.convert("RGB").crop((0, top, width, top + height // 4))
            rows.append(row.resize((WIDTH, WIDTH * row.height // width)))
    whole = Image.new("RGB", (WIDTH, sum(row.height for row in rows)))
    for number, row in enumerate(rows):
        whole.paste(row, (0, sum(each.height for each in rows[:number])))
    whole.save(KEPT.with_suffix(".jpg"), quality=85)


def source(name: str, args: argparse.Namespace) -> Path:
    return (
        crops(args.workdir) if name == "crops" else getattr(sets, name)(args.data_dir, args.workdir)
    )


def crops(workdir: Path) -> Path:
    """Return squares of all sizes cut from photographs, at 128x128, half of them mirrored."""
    from PIL import Image
    from skimage import data
    from sklearn.datasets import load_sample_images

    path = workdir / "crops.npz"
    if path.exists():
        return path
    pictures = [*load_sample_images().images]
    pictures += [read() for read in (data.astronaut, data.chelsea, data.coffee, data.rocket)]
    rng, images = np.random.default_rng(0), []
    for number in range(CROPS):
        picture = pictures[number % len(pictures)]
        height, width = picture.shape[:2]
        side = int(rng.integers(SIDE, min(height, width) + 1))
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        crop = Image.fromarray(picture[top : top + side, left : left + side])
        image = np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        images.append(image[:, ::-1] if rng.random() < 0.5 else image)
    np.savez(path, images=np.stack(images))
    return path


def seconds_per_step(model, images, config) -> float:  # type: ignore[no-untyped-def]
    """Return the processor seconds of a step, without the first one."""
    from dataclasses import replace

    from mlx_gmvae.training.api import new_trainer

    trainer = new_trainer(model, images[: 12 * config.batchsize], replace(config, epochs=2))
    found = []
    for _ in trainer.run():
        found.append(time.process_time())
    return (found[1] - found[0]) / trainer.steps_per_epoch


def lossless_bits(model, train: np.ndarray, test: np.ndarray) -> float:  # type: ignore[no-untyped-def]
    """Return -ELBO of test images in bits per dimension, under logistic pixels."""
    from mlx_gmvae.data.batches import as_float, in_batches
    from mlx_gmvae.device.randomness import random_rows
    from mlx_gmvae.models.distributions import Logistic

    import mlx.core as mx

    def locations(x, q):  # type: ignore[no-untyped-def]
        decoded = model.decode(q.sample())
        return decoded if isinstance(model.likelihood, Logistic) else model.likelihood.mean(decoded)

    mx.random.seed(1)
    likelihood = model.likelihood
    if not isinstance(likelihood, Logistic):
        some = train[random_rows(len(train), 500)]
        x = as_float(some)
        found = mx.concatenate([locations(b, model.encode(b)) for b in in_batches(some)])
        likelihood, fits = Logistic(x.shape[-1]), []
        for scale in SCALES:
            likelihood.log_scale = mx.full((x.shape[-1],), math.log(scale))
            fits.append(float(likelihood.log_prob(found, x).mean()))
        likelihood.log_scale = mx.full((x.shape[-1],), math.log(SCALES[int(np.argmax(fits))]))
    total = 0.0
    for x in in_batches(test):
        q = model.encode(x)
        total += float((q.kl_standard() - likelihood.log_prob(locations(x, q), x)).sum())
    return total / len(test) / math.log(2) / math.prod(test.shape[1:])


if __name__ == "__main__":
    main()
