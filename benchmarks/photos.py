"""Time and memory for a folder of photographs: train, stop, resume, cluster, sort.

    python benchmarks/photos.py PHOTOS

PHOTOS is a folder of images, or a zip of one. Figures are kept in benchmarks/results/photos.json;
memory is the largest resident set of the process (Linux).
"""

import argparse
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import record

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "benchmarks" / "results" / "photos.json"
MEASURED = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--workdir", type=Path, default=ROOT / "results" / "photos")
    args = parser.parse_args()
    shutil.rmtree(args.workdir, ignore_errors=True)
    folder, run = args.photos, args.workdir / "run"
    if folder.suffix == ".zip":
        folder = args.workdir / "photos"
        with zipfile.ZipFile(args.photos) as archive:
            archive.extractall(folder)
    data = f"--data_dir {args.workdir}/cache"
    model, sorted_into = f"--model {run}/model.npz", args.workdir / "sorted"
    steps = {
        "train, 3 epochs": f"train --dataset {folder} --latent_dims 32 --epochs 3 --outdir {run}",
        "resume, 2 more": f"train --resume {run} --epochs 5",
        "cluster and sort": f"cluster {model} --split all --sort_into {sorted_into} "
        f"--outdir {args.workdir}/clusters",
        "reconstruct": f"reconstruct {model} --rec_testdata --outdir {args.workdir}/rec",
    }
    rows = {}
    for name, options in steps.items():
        script, *words = f"{options} {data}".split()
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(ROOT / f"{script}.py"), *words],
            check=True, capture_output=True, text=True, cwd=ROOT,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        megabytes = int(done.stdout.split("peak ")[-1]) / 1024
        rows[name] = {"seconds": round(seconds, 1), "megabytes": round(megabytes)}
        print(f"{name:<20}{seconds:8.1f} s {megabytes:8.0f} MB", flush=True)
    files = [path for path in sorted_into.rglob("*") if path.is_file()]
    rows["files sorted"] = len(files)
    print(f"{len(files)} files sorted into {len(list(sorted_into.iterdir()))} folders")
    record.write(KEPT, rows)


if __name__ == "__main__":
    main()
