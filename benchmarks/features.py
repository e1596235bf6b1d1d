"""Run of every command of docs/FEATURES.md as it is typed; takes minutes.

    python benchmarks/features.py --data_dir DIR

The commands run beside a folder `photos` with two classes of photographs, a folder `encoder` and a
file of features, as the page describes, with MNIST and other published sets in DIR, and a server on
loopback in place of the Hugging Face Hub. A command that fails, or does not write its output, ends
the program.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))
import hub_server  # noqa: E402

ROW = re.compile(r"^\| (.+) \| `python (\w+)\.py (.+)` \| (\S+) \|$", re.MULTILINE)
# For an output folder, the file that exists only if the command has worked.
WRITTEN = {
    "runs/vae": "model.npz",
    "runs/tree": "progress.gif",
    "runs/photos": "reconstructions/large_comparisons/epoch_0001.png",
    "runs/auto": "select_k.png",
    "runs/own": "neighbours.npz",
    "runs/early": "best.npz",
    "runs/mutual": "latent_tsne.png",
    "rec": "test_worst.png",
    "clusters": "../sorted/cluster_09",
    "more": "cluster_03_00019.png",
    "strange": "anomalies.png",
    "fitted": "summary.html",
    "latents": "latents.npy",
    "tsne": "latent_tsne.png",
    "named": "confusion.png",
    "page": "explorer.html",
    "curated": "cluster_03_threes.png",
    "copies": "duplicates.csv",
    "exported": "label_studio.json",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", required=True, help="folder with mnist/ and frey/")
    args = parser.parse_args()
    data_dir = str(Path(args.data_dir).resolve())
    rows = ROW.findall((ROOT / "docs" / "FEATURES.md").read_text())
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as hub:
        place = Path(folder)
        prepare(place)
        with hub_server.listening(hub_server.Hub(Path(hub), Path(hub))) as address:
            environment = {**os.environ, "HF_ENDPOINT": address, "HF_TOKEN": hub_server.WRITER}
            environment |= {"HF_HOME": f"{hub}/home", "HF_HUB_DISABLE_XET": "1"}
            for what, script, options, _ in rows:
                run(place, what, script, options.replace("DIR", data_dir), environment)


def run(place: Path, what: str, script: str, options: str, environment: dict[str, str]) -> None:
    """Run the command of a row in the folder `place`."""
    words, started = shlex.split(options), time.monotonic()
    command = [sys.executable, str(ROOT / f"{script}.py"), *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment)
    print(f"{time.monotonic() - started:6.1f} s  {what}", flush=True)
    if done.returncode or not (place / written(words)).exists():
        sys.exit(f"python {script}.py {options}\n{done.stdout}{done.stderr}")


def written(words: list[str]) -> str:
    """Return the path that a command must have written."""
    named = [words[words.index(flag) + 1] for flag in ("--outfile", "--outdir") if flag in words]
    return (
        f"{named[0]}/{WRITTEN[named[0]]}" if named and named[0] in WRITTEN else (named or [""])[0]
    )


def prepare(folder: Path) -> None:
    """Make a folder with pretrained models, two classes of photographs, features, an encoder."""
    (folder / "pretrained").symlink_to(ROOT / "pretrained")
    (folder / "encoder").symlink_to(ROOT / "tests" / "encoders" / "dinov2")
    np.save(folder / "features.npy", load_digits().data)
    rng = np.random.default_rng(0)
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            top, left = rng.integers(0, 300), rng.integers(0, 500)
            piece = Image.fromarray(photo[top : top + 48, left : left + 64])
            piece.save(folder / "photos" / name / f"{number}.png")
    decided = {"curation": 1, "clusters": 10, "names": {"3": "threes"}, "merged": [[1, 4]]}
    (folder / "curation.json").write_text(json.dumps(decided))
    (folder / "snapshots").mkdir()
    for number, size in enumerate([(90, 40), (30, 70), (64, 48)]):
        piece.resize(size).save(folder / "snapshots" / f"{number}.jpg")


if __name__ == "__main__":
    main()
