"""Pictures in assets/, each drawn by the command that a reader would type (`make assets`).

    python benchmarks/assets.py --data_dir DIR [--only NAME ...]

It takes a few minutes with the pretrained models; the plane and the animation train small models
first. Screenshots need Chromium. accuracy.png, mutual_learning.png and numbers.png are drawn by
other benchmarks (epochs.py, mutual_learning.py, decoders.py --numbers), from runs that take hours.
"""

import argparse
import base64
import collections
import csv
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageSequence

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))

import sets  # noqa: E402
from browser import CHROMIUM, Browser  # noqa: E402

ASSETS = ROOT / "assets"
FLAGSHIP = "pretrained/gmvae_mnist_K10_dims_0008.npz"
PLANE = "pretrained/vae_mnist_mlp_dims_0002.npz"
CLUSTERS = f"cluster.py --model {FLAGSHIP} --split test --anomalies 18 --tsne --explorer"
LABELLED = (
    "train.py --model vae --arch mlp --latent_dims 2 --dataset mnist --classes 1 4 8 --epochs 40 "
    "--lr 3e-3"
)
PHOTOS = "--dataset {photos_1000_0} --features {efficientnet_1000_0}"
PHOTO_COMMANDS = [
    f"train.py {PHOTOS} --latent_dims 32 --K 10 --epochs 1 --outdir {{out}}/run",
    f"cluster.py --model {{out}}/run/model.npz {PHOTOS} --split test --outdir {{out}}",
]
PHOTOS_PER_CLUSTER, PHOTO_SIDE, GAP = 14, 40, 4
OTHER_CLASS = (214, 39, 40)  # frame of a photograph whose class is not the most frequent one
COLOURS = 256
SECONDS_TO_DRAW = 2
# A default run on the digits, all that the scripts write about it, and two failed runs.
DIGITS = [
    "train.py --dataset digits --K 10 --outdir {out}/run",
    "cluster.py --model {out}/run/model.npz --explorer --tsne --anomalies 20 --outdir {out}",
    "reconstruct.py --model {out}/run/model.npz --rec_testdata --num 40 --outdir {out}",
]
SMALL = "train.py --dataset digits --arch mlp --hidden_dims 128 --epochs 20"
COLLAPSED = [f"{SMALL} --K 10 --pair_weight 0 --outdir {{out}}"]
TOO_MANY = [
    f"{SMALL} --K 16 --outdir {{out}}/run",
    "cluster.py --model {out}/run/model.npz --outdir {out}",
]
# For each picture its commands, the last of which writes into {out}, and the file to copy.
MADE = {
    "samples.png": ([f"generate.py --model {FLAGSHIP} --outfile {{out}}/samples.png"], "samples"),
    "interpolation.png": (
        [f"generate.py --model {FLAGSHIP} --interpolate 0 8 --outfile {{out}}/path.png"], "path",
    ),
    "manifold.png": (
        [f"generate.py --model {PLANE} --manifold --num 16 --outfile {{out}}/plane.png"], "plane",
    ),
    "reconstructions.png": (
        [f"reconstruct.py --model {FLAGSHIP} --rec_testdata --num 40 --outdir {{out}}"],
        "test_reconstructions",
    ),
    "plane.png": (
        [f"{LABELLED} --outdir {{out}}/run",
         "cluster.py --model {out}/run/model.npz --labelled 10 --outdir {out}"], "latent",
    ),
    "training.gif": (DIGITS, "run/progress"),
    "digits_curves.png": (DIGITS, "run/curves"),
    "digits_samples.png": (DIGITS, "run/samples"),
    "digits_latent.png": (DIGITS, "run/latent"),
    "digits_sheet.png": (DIGITS, "cluster_03"),
    "digits_anomalies.png": (DIGITS, "anomalies"),
    "digits_reconstructions.png": (DIGITS, "test_reconstructions"),
    "collapsed_curves.png": (COLLAPSED, "curves"),
    "collapsed_samples.png": (COLLAPSED, "samples"),
    "collapsed_latent.png": (COLLAPSED, "latent"),
    "select_k.png": (
        ["train.py --dataset digits --latent_dims 8 --K auto --outdir {out}"], "select_k",
    ),
    "split_13.png": (TOO_MANY, "cluster_13"),
    "split_14.png": (TOO_MANY, "cluster_14"),
    "latent.png": ([f"{CLUSTERS} --outdir {{out}}"], "latent"),
    "sheet.png": ([f"{CLUSTERS} --outdir {{out}}"], "cluster_05"),
}  # fmt: skip
PAGES: dict[
    str, tuple[list[str], str, int, int, bool]
] = {  # screenshots of what commands write: page, width, height, dark
    "explorer.png": ([f"{CLUSTERS} --outdir {{out}}"], "explorer.html", 1200, 713, False),
    "explorer_dark.png": ([f"{CLUSTERS} --outdir {{out}}"], "explorer.html", 1200, 713, True),
    "summary.png": ([f"{CLUSTERS} --outdir {{out}}"], "summary.html", 1250, 1470, False),
    "summary_dark.png": ([f"{CLUSTERS} --outdir {{out}}"], "summary.html", 1250, 1470, True),
    "digits_explorer.png": (DIGITS, "explorer.html", 1200, 713, False),
    "digits_explorer_dark.png": (DIGITS, "explorer.html", 1200, 713, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", help="where MNIST lies, or is downloaded to")
    names = [*MADE, *PAGES, "photos.png"]
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names)
    args = parser.parse_args()
    wanted = args.only or names
    with tempfile.TemporaryDirectory() as work:
        done: dict[str, Path] = {}  # folders by commands: each runs once
        for name in wanted:
            if name == "photos.png":
                draw_photos(Path(args.data_dir), Path(work), ASSETS / name)
                continue
            commands, stem = MADE[name] if name in MADE else (PAGES[name][0], "")
            folder = done.setdefault(" ".join(commands), Path(work) / str(len(done)))
            if not folder.exists():
                folder.mkdir()
                for command in commands:
                    run(command.format(out=folder), args.data_dir)
            if name in PAGES:
                screenshot(*PAGES[name][1:], folder, ASSETS / name)
            else:
                shutil.copyfile(folder / f"{stem}{Path(name).suffix}", ASSETS / name)
            if name.endswith(".gif"):
                halve(ASSETS / name)
            else:
                reduce_colours(ASSETS / name)
            print(f"assets/{name}", flush=True)


def run(command: str, data_dir: str | None) -> None:
    script, *options = command.split()
    if data_dir and script != "generate.py":
        options += ["--data_dir", data_dir]
    subprocess.run([sys.executable, script, *options], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip


def draw_photos(data_dir: Path, work: Path, path: Path) -> None:
    """Draw photographs in their clusters, a row each, those of another class in a red frame.

    The photographs are held out: the first ones of each cluster in the order of the test split.
    """
    places = sets.prepare(data_dir, work, PHOTOS)
    folder = work / "photo_clusters"
    for command in PHOTO_COMMANDS:
        run(command.format(out=folder, **places), None)
    with (folder / "assignments.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    random.Random(0).shuffle(rows)  # the test split is in the order of its classes
    clusters = sorted({int(row["cluster"]) for row in rows})
    step = PHOTO_SIDE + GAP
    size = (PHOTOS_PER_CLUSTER * step + GAP, len(clusters) * step + GAP)
    sheet = Image.new("RGB", size, "white")
    for number in clusters:
        members = [row for row in rows if int(row["cluster"]) == number]
        counts = collections.Counter(row["label"] for row in members)
        usual = counts.most_common(1)[0][0]
        for column, row in enumerate(members[:PHOTOS_PER_CLUSTER]):
            x, y = GAP + column * step, GAP + number * step
            if row["label"] != usual:
                box = (x - GAP // 2, y - GAP // 2, x + PHOTO_SIDE + 1, y + PHOTO_SIDE + 1)
                ImageDraw.Draw(sheet).rectangle(box, fill=OTHER_CLASS)
            with Image.open(row["file"]) as photo:
                sheet.paste(photo.convert("RGB").resize((PHOTO_SIDE, PHOTO_SIDE)), (x, y))
        print(f"cluster {number}: {dict(counts.most_common(3))} of {len(members)}")
    sheet.save(path)
    reduce_colours(path)
    print("assets/photos.png", flush=True)


def halve(path: Path) -> None:
    """Reduce an animation to half its width and height."""
    with Image.open(path) as animation:
        frames, durations = [], []
        for frame in ImageSequence.Iterator(animation):
            durations.append(frame.info["duration"])
            frames.append(frame.convert("L").reduce(2))
    first, *others = frames
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)


def screenshot(page: str, width: int, height: int, is_dark: bool, folder: Path, path: Path) -> None:
    """Save a screenshot of a page in Chromium, in light or dark mode."""
    if CHROMIUM is None:
        sys.exit("screenshots need Chromium; install it, or choose others with --only")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(Path(profile), width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        browser.send("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.send("Emulation.setDeviceMetricsOverride", **size)
        browser.send("Emulation.setScrollbarsHidden", hidden=True)
        browser.open(folder / page)
        time.sleep(SECONDS_TO_DRAW)
        picture = browser.send("Page.captureScreenshot")["data"]
        browser.close()
    path.write_bytes(base64.b64decode(picture))


def reduce_colours(path: Path) -> None:
    """Make the file of a picture smaller."""
    # By coverage: the few pixels of a legend keep the colours of its points.
    whole = Image.open(path).convert("RGB")
    whole.quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


if __name__ == "__main__":
    main()
