"""Recall and precision of `cluster.py --duplicates` on copies made from known images.

    python benchmarks/duplicates.py --data_dir DIR

250 images of each set are copied in five ways. Recall is the share of copies in one group with
their original; precision is the share of pairs within groups that have the same original. Copies
that a set already has, as photographs and typefaces do, count as wrong. Results are kept in
benchmarks/results/duplicates.json. DIR has mnist/, letters/letters.npz and photos/, a folder of
photographs; sets that are missing are skipped.
"""

import argparse
import io
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mlx_gmvae as mg  # noqa: E402
from mlx_gmvae.clustering.duplicates import near_duplicates  # noqa: E402
from mlx_gmvae.errors import InputError  # noqa: E402

import numpy as np  # noqa: E402
import record  # noqa: E402
from PIL import Image  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "duplicates.json"
SETS = {"photographs": "photos", "letters": "letters/letters.npz", "MNIST": "mnist"}
MOST, COPIED = 10_000, 250
KINDS = ("reduced to 0.6", "JPEG of quality 40", "cropped by 3 to 14 %", "brightness 0.65 to 1.35",
         "JPEG, crop and brightness")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", required=True)
    folder = Path(parser.parse_args().data_dir)
    results = {}
    for name, place in SETS.items():
        try:
            source = place if place == "mnist" else str(folder / place)
            images = mg.load_dataset(source, str(folder)).train.images
        except InputError as error:
            print(f"{name}: {error}")
            continue
        results[name] = measure(images)
        print(name, results[name], flush=True)
    content = {"command": "python benchmarks/duplicates.py --data_dir DIR", "results": results}
    record.write(RESULTS, content)


def measure(images: np.ndarray) -> dict:
    rng = np.random.default_rng(0)
    images = images[rng.permutation(len(images))[:MOST]]
    copied = rng.permutation(len(images))[:COPIED]
    made = [copies(images[row], rng) for row in copied]
    every = np.concatenate([images, *(np.stack(kind) for kind in zip(*made, strict=True))])
    origin = np.concatenate([np.arange(len(images)), np.tile(copied, len(KINDS))])
    started = time.perf_counter()
    groups = near_duplicates(every)
    seconds = time.perf_counter() - started
    group_of = np.full(len(every), -1)
    right = pairs = 0
    for number, rows in enumerate(groups):
        group_of[rows] = number
        _, counts = np.unique(origin[rows], return_counts=True)
        right += int((counts * (counts - 1) // 2).sum())
        pairs += len(rows) * (len(rows) - 1) // 2
    found = group_of[len(images) :].reshape(len(KINDS), COPIED)
    is_found = (found == group_of[copied]) & (found >= 0)
    recall = {
        kind: round(float(each.mean()), 3) for kind, each in zip(KINDS, is_found, strict=True)
    }
    precision = round(right / pairs, 3) if pairs else None
    return {"images": len(every), "recall": recall, "precision": precision,
            "groups": len(groups), "seconds": round(seconds, 1)}  # fmt: skip


def copies(image: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Return a copy of an image (H, W, C) for each of KINDS."""
    height, width, channels = image.shape
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    small = picture.resize((round(0.6 * width), round(0.6 * height)), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=40)
    compressed = Image.open(file).convert(picture.mode)
    side = rng.uniform(0.86, 0.97)
    left, top = rng.uniform(0, 1 - side, 2) * (width, height)
    box = (left, top, left + side * width, top + side * height)
    gain = rng.uniform(*((0.65, 0.8) if rng.random() < 0.5 else (1.2, 1.35)))

    def array(changed: Image.Image) -> np.ndarray:
        return np.asarray(changed).reshape(height, width, channels)

    def brighter(changed: np.ndarray) -> np.ndarray:
        return np.clip(changed * gain, 0, 255).astype(np.uint8)

    cropped = picture.resize((width, height), Image.Resampling.BICUBIC, box)
    every = compressed.resize((width, height), Image.Resampling.BICUBIC, box)
    enlarged = small.resize((width, height), Image.Resampling.BICUBIC)
    return [array(enlarged), array(compressed), array(cropped), brighter(image),
            brighter(array(every))]  # fmt: skip


if __name__ == "__main__":
    main()
