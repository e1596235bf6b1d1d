"""Comparison of encoders with transformers and PyTorch: agreement, speed, memory, decoding.

    python benchmarks/encoders.py --agreement                    # needs no other package
    python benchmarks/encoders.py --torch_python ENV/bin/python  # ENV has torch and transformers

Speed is that of dinov2-small's architecture (22 million random weights) at 224 x 224. Each row
runs in a process of its own, and rows take turns; figures are medians over the rounds, and medians
of the ratios within a round. On a busy machine compare processor time, with --threads 1, because
PyTorch's threads wait for each other and their waiting counts as work. Decoding is that of
12-megapixel JPEGs.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import record  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "encoders.json"
ROWS = ("ours", "PyTorch")
MEGAPIXELS_12 = (4000, 3000)
NUM_JPEGS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--agreement", action="store_true", help="differences to transformers")
    parser.add_argument("--torch_python", default=sys.executable, metavar="PATH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each row in a round")
    parser.add_argument("--threads", type=int, help="for both (default: one for each core)")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # row, folder, seconds
    args = parser.parse_args()
    if args.one:
        row, folder, seconds = args.one
        print(json.dumps(measure(row, Path(folder), float(seconds))))
    elif args.agreement:
        keep({"agreement": agreement()})
    else:
        if args.threads:
            names = ("OPENBLAS", "OMP")
            os.environ |= {f"{name}_NUM_THREADS": str(args.threads) for name in names}
        os.environ.pop("OPENBLAS_CORETYPE", None)
        keep({"speed" + (f", {args.threads} threads" if args.threads else ""): speed(args)})


def agreement() -> list[dict[str, Any]]:
    """Return the largest differences to the file of `encoder_oracle.py`, by architecture."""
    from mlx_gmvae.encoders.encoder import load_encoder

    from encoder_oracle import EVERY, FOLDER, OTHER_SIZE, photographs
    from PIL import Image

    expected, rows = np.load(FOLDER / "expected.npz"), []
    for folder in sorted(path for path in FOLDER.iterdir() if path.is_dir()):
        encoder = load_encoder(folder)
        row: dict[str, Any] = {"architecture": folder.name}
        for at in ("own", "other"):
            if at == "other":
                which = "crop" if any(encoder.preprocessing.crop) else "size"
                changed = {which: OTHER_SIZE}
                encoder.preprocessing = dataclasses.replace(encoder.preprocessing, **changed)
            apart: dict[str, list[float]] = {"pixels": [], "features": []}
            for name, image in photographs().items():
                pixels = encoder.preprocessing.pixels(Image.fromarray(image))[None]
                images = np.asarray(encoder.normalised(pixels))[0].transpose(2, 0, 1)[:, ::EVERY]
                for kind, found in (("pixels", images), ("features", encoder.features(pixels)[0])):
                    wanted = expected[f"{folder.name}/{name}/{at}/{kind}"]
                    apart[kind].append(float(np.abs(found - wanted).max()))
            row |= {f"{kind}, {at} size": max(values) for kind, values in apart.items()}
        rows.append(row)
        print(row["architecture"], *(f"{name} {row[name]:.1e}" for name in list(row)[1:]), sep=", ")
    return rows


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Measure images a second of both, in turns, and the share of decoding in ours."""
    with tempfile.TemporaryDirectory() as place:
        make_folder(args.torch_python, Path(place))
        rounds = []
        for number in range(args.rounds):
            order = ROWS[:: -1 if number % 2 else 1]
            rounds.append({row: in_own_process(args, row, place) for row in order})
            print({row: rounds[-1][row]["images_per_cpu_second"] for row in ROWS}, flush=True)
        decoding = in_own_process(args, "decoding", place)
    found: dict[str, Any] = {
        row: {name: statistics.median(r[row][name] for r in rounds) for name in rounds[0][row]}
        for row in ROWS
    }
    for name in ("images_per_second", "images_per_cpu_second"):
        ratios = [r["ours"][name] / r["PyTorch"][name] for r in rounds]
        found[f"ratio of {name}"] = statistics.median(ratios)
    found["decoding"] = decoding
    print(json.dumps(found, indent=2))
    return found


def make_folder(python: str, place: Path) -> None:
    """Save dinov2-small's architecture with random weights by transformers."""
    code = (
        "import sys, transformers as t\n"
        "sizes = dict(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)\n"
        "t.Dinov2Model(t.Dinov2Config(**sizes)).save_pretrained(sys.argv[1])\n"
        "t.BitImageProcessorPil(size={'shortest_edge': 256}).save_pretrained(sys.argv[1])"
    )
    subprocess.run([python, "-c", code, str(place)], check=True, stderr=subprocess.DEVNULL)


def in_own_process(args: argparse.Namespace, row: str, place: str) -> dict[str, float]:
    python = args.torch_python if row == "PyTorch" else sys.executable
    command = [python, __file__, "--one", row, place, str(args.seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(row: str, folder: Path, seconds: float) -> dict[str, float]:
    """Return images a second by the clock and by processor time, and peak memory."""
    if row == "decoding":
        return measure_decoding(folder)
    batch = 16 if row == "PyTorch" else 0
    if row == "PyTorch":
        import torch
        import transformers

        if "OMP_NUM_THREADS" in os.environ:
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        network = transformers.Dinov2Model.from_pretrained(folder).eval()

        def step(images: np.ndarray) -> None:
            with torch.inference_mode():
                pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
                network((pixels - 0.45) / 0.225).pooler_output.numpy()
    else:
        encoder = our_encoder(folder)
        batch = encoder.batch_size

        def step(images: np.ndarray) -> None:
            encoder.features(images)

    images = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), np.uint8)
    step(images)
    done, started, cpu_started = 0, time.perf_counter(), time.process_time()
    while done < 2 * batch or time.perf_counter() - started < seconds:
        step(images)
        done += batch
    to_megabytes = 1e6 if sys.platform == "darwin" else 1e3
    return {
        "images_per_second": done / (time.perf_counter() - started),
        "images_per_cpu_second": done / (time.process_time() - cpu_started),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / to_megabytes,
    }


def our_encoder(folder: Path) -> Any:
    from mlx_gmvae.device import backend
    from mlx_gmvae.encoders.encoder import load_encoder

    backend.select_device(cpu=True)
    backend.keep_freed_memory()  # as the scripts do
    return load_encoder(folder)


def measure_decoding(folder: Path) -> dict[str, float]:
    """Return the processor times of decoding 12-megapixel files and of their features."""
    encoder = our_encoder(folder)
    from mlx_gmvae.data.decode import picture
    from mlx_gmvae.encoders.encode import DRAFT_FACTOR

    from PIL import Image
    from sklearn.datasets import load_sample_images

    least = DRAFT_FACTOR * encoder.preprocessing.least_size
    files = []
    for number in range(NUM_JPEGS):
        photo = Image.fromarray(load_sample_images().images[number % 2])
        large = np.asarray(photo.resize(MEGAPIXELS_12, Image.Resampling.BICUBIC)).astype(np.int16)
        noise = np.random.default_rng(number).normal(0, 6, large.shape)  # sensor noise
        files.append(folder / f"{number}.jpg")
        noisy = (large + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(files[-1], quality=92)
    started = time.process_time()
    pixels = [encoder.preprocessing.pixels(picture(str(file), "RGB", least)) for file in files]
    decoded = time.process_time()
    encoder.features(np.stack(pixels[:2]))  # once, to warm up
    warm = time.process_time()
    encoder.features(np.stack(pixels))
    encoded = time.process_time()
    return {
        "megabytes of a JPEG": files[0].stat().st_size / 1e6,
        "milliseconds to decode": 1e3 * (decoded - started) / NUM_JPEGS,
        "milliseconds to encode": 1e3 * (encoded - warm) / NUM_JPEGS,
    }


def keep(found: dict[str, Any]) -> None:
    kept = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    record.write(RESULT, kept | found, found)


if __name__ == "__main__":
    main()
