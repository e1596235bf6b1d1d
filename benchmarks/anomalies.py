"""Anomaly scores: ROC-AUC of several scores for images of another kind.

    python benchmarks/anomalies.py --data_dir DIR --workdir W

Plain GMVAEs (K = 10, no pair objective) are trained on images of one kind: 8,000 letters, 8,000
digits, or the 1,000 training photographs of one class, for each of the ten classes. With --only
pretrained, the models of letters and of digits in pretrained/ are used instead. Every score then
ranks test images of that kind and as many of another kind: 1,000 each, or 200 photographs of the
class and 200 of the nine others. The AUC is the probability that the image of the other kind has
the higher score. Results are kept in benchmarks/results/anomalies.json, and the models in W. DIR
holds mnist/, letters.npz and a zip of class folders of photographs.
"""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
KEPT = ROOT / "benchmarks" / "results" / "anomalies.json"

import record  # noqa: E402
import sets  # noqa: E402

LIKELIHOODS: dict[str, dict[str, Any]] = {
    "pretrained": {},
    "bernoulli": {},
    "gaussian": {"likelihood": "gaussian", "sigma": 0.1},
    "logistic": {"likelihood": "logistic"},
}
CASES = ("digits among letters", "letters among digits", "photographs")
PRETRAINED = {"letters": "gmvae_letters_K10_dims_0016", "digits": "gmvae_mnist_K10_dims_0008"}
DRAWINGS, TESTED, OF_CLASS = 8_000, 1000, 200  # training images, images of each kind to rank
CALIBRATED = 1000  # training images, for typicality
EPOCHS = {"drawings": 5, "photos": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, default=ROOT / "results" / "anomalies")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=LIKELIHOODS, default=list(LIKELIHOODS))
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    for likelihood in args.only:
        for seed in args.seeds:
            for case in CASES[:2] if likelihood == "pretrained" else CASES:
                kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
                of_case = kept.setdefault(likelihood, {}).setdefault(case, {})
                if str(seed) in of_case:
                    continue
                of_case[str(seed)] = measured(case, likelihood, seed, args)
                record.write(KEPT, kept, [f"{likelihood}, {case}"])
                print(f"{likelihood}, {case}, seed {seed}: {of_case[str(seed)]}", flush=True)


def measured(case: str, likelihood: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Return the AUC of every score; for photographs the mean over the classes."""
    from mlx_gmvae.runs.checkpoint import load_model

    found = []
    for name, train, usual, other in sets_of(case, seed, args):
        if likelihood == "pretrained":
            model = load_model(ROOT / "pretrained" / f"{PRETRAINED[name]}.npz").model
        else:
            title = f"{name}_{likelihood}_{seed}"
            model = trained(title, train, LIKELIHOODS[likelihood], seed, args)
        found.append(aucs(model, train, usual, other))
    return {score: round(float(np.mean([f[score] for f in found])), 4) for score in found[0]}


def sets_of(case: str, seed: int, args: argparse.Namespace):  # type: ignore[no-untyped-def]
    """Yield a name, training images, normal and anomalous test images; ten for photographs."""
    from mlx_gmvae.data.datasets import load_dataset
    from mlx_gmvae.device.randomness import random_rows

    rng = np.random.default_rng(seed)

    def some(images: np.ndarray, num: int) -> np.ndarray:
        return images[np.sort(random_rows(len(images), num, rng))]

    if case != "photographs":
        letters = load_dataset(str(sets.letters(args.data_dir, args.workdir)), args.data_dir)
        digits = load_dataset("mnist", args.data_dir)
        ours, others = (digits, letters) if case == "letters among digits" else (letters, digits)
        train, usual = some(ours.train.images, DRAWINGS), some(ours.test.images, TESTED)
        yield case.split()[-1], train, usual, some(others.test.images, TESTED)
        return
    source = sets.photos(args.data_dir, args.workdir)
    train, test = load_dataset(str(source), args.data_dir)
    for number, name in enumerate(train.class_names):
        is_usual = test.labels == number
        usual = some(test.images[is_usual], OF_CLASS)
        other = some(test.images[~is_usual], len(usual))
        yield name, train.images[train.labels == number], usual, other


def trained(  # type: ignore[no-untyped-def]
    name: str, images: np.ndarray, options: dict[str, Any], seed: int, args: argparse.Namespace
):
    """Return a GMVAE trained on these images, from the work folder if it is there."""
    from mlx_gmvae import ModelConfig, TrainConfig
    from mlx_gmvae.device import backend
    from mlx_gmvae.models import build_model
    from mlx_gmvae.runs.checkpoint import load_model, save_model
    from mlx_gmvae.training.api import new_trainer
    from mlx_gmvae.training.defaults import for_model

    import mlx.core as mx

    path = args.workdir / f"{name}.npz"
    if path.exists():
        return load_model(path).model
    backend.keep_freed_memory()
    height, width, channels = images.shape[1:]
    kind = "photos" if channels == 3 else "drawings"
    config = ModelConfig.from_dict(
        {"model": "gmvae", "K": 10, "latent_dims": 32 if kind == "photos" else 8}
        | {"image_size": (height, width), "channels": channels}
        | options
    )
    mx.random.seed(seed)
    model = build_model(config)
    batchsize = 32 if kind == "photos" else 128
    training = TrainConfig(epochs=EPOCHS[kind], batchsize=batchsize, pair_weight=0.0, seed=seed)
    for _ in new_trainer(model, images, for_model(training, config, set())).run():
        pass
    model.eval()
    save_model(path, model)
    return model


def aucs(  # type: ignore[no-untyped-def]
    model, train: np.ndarray, usual: np.ndarray, other: np.ndarray
) -> dict[str, float]:
    """Return the ROC-AUC of each score for `other` against `usual`."""
    from sklearn.metrics import roc_auc_score

    of_usual, of_other = (scores_of(model, train, images) for images in (usual, other))
    is_other = np.repeat([0, 1], [len(usual), len(other)])
    return {
        name: float(roc_auc_score(is_other, np.concatenate([of_usual[name], of_other[name]])))
        for name in of_usual
    }


def scores_of(model, train: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
    """Return every score of each image, (N,); anomalies have higher scores."""
    from mlx_gmvae.device.randomness import random_rows
    from mlx_gmvae.evaluation.scores import anomaly_scores, reconstruction_scores

    bound, deviance = (anomaly_scores(model, images, kind) for kind in ("importance", "deviance"))
    some = train[np.sort(random_rows(len(train), CALIBRATED))]
    usual = [anomaly_scores(model, some, kind).mean() for kind in ("importance", "deviance")]
    mse, ssim = reconstruction_scores(model, images)
    return {
        "importance": bound,
        "elbo": anomaly_scores(model, images, "elbo"),
        "deviance": deviance,
        "likelihood ratio": bound + background(model.config.likelihood, train, images),
        "input complexity": bound - np.log(2) * bits_of_png(images),
        "typicality": np.abs(bound - usual[0]),
        "typicality of the deviance": np.abs(deviance - usual[1]),
        "MSE": mse,
        "1 - SSIM": 1 - ssim,
    }


def background(likelihood: str, train: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return log p of each image, (N,), under independent pixels.

    The mean of a pixel, and for densities its variance, are those of the training images. This is
    the cheapest of the background models that Ren et al. 2019 subtract.
    """
    of_train, x = (each.reshape(len(each), -1) / 255.0 for each in (train, images))
    mean = of_train.mean(axis=0)
    if likelihood == "bernoulli":
        mean = np.clip(mean, 1 / 512, 1 - 1 / 512)
        return (x * np.log(mean) + (1 - x) * np.log(1 - mean)).sum(axis=1)
    variance = of_train.var(axis=0) + 1 / 255**2
    return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)


def bits_of_png(images: np.ndarray) -> np.ndarray:
    """Return the bits of a lossless code for each image, (N,) (Serrà et al. 2020)."""
    from mlx_gmvae.report.figures import as_pillow

    sizes = []
    for image in images:
        written = io.BytesIO()
        as_pillow(image).save(written, "png", optimize=True)
        sizes.append(8 * len(written.getvalue()))
    return np.array(sizes, float)


if __name__ == "__main__":
    main()
