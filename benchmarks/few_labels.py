"""Classes of the digits 1, 4 and 8 from ten labelled examples each, in a 2-D dense VAE.

    python benchmarks/few_labels.py --data_dir DIR

Runs five seeds of `train.py`, then `reconstruct.py` (SSIM of the test images) and `cluster.py`,
where the same seed chooses the labelled examples. Kept in benchmarks/results/few_labels.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import record

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "benchmarks" / "results" / "few_labels.json"
SEEDS = range(5)
TRAIN = (
    "--model vae --arch mlp --latent_dims 2 --dataset mnist --classes 1 4 8 --epochs 40 --lr 3e-3"
)
MEASURES = ("ssim", "accuracy", "precision", "recall", "f1_macro", "f1_micro")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--workdir", type=Path, default=ROOT / "results" / "few_labels")
    args = parser.parse_args()
    rows = {}
    for seed in SEEDS:
        folder, data = args.workdir / str(seed), f"--data_dir {args.data_dir} --seed {seed}"
        run("train", f"{TRAIN} {data} --outdir {folder} --overwrite")
        model = f"--model {folder}/model.npz {data}"
        run("reconstruct", f"{model} --rec_testdata --outdir {folder}/rec")
        run("cluster", f"{model} --labelled 10 --outdir {folder}/clusters")
        scores = json.loads((folder / "clusters/metrics.json").read_text())["classification"]
        scores["ssim"] = json.loads((folder / "rec/test_reconstructions.json").read_text())["ssim"]
        rows[seed] = scores
        print(f"seed {seed}: " + "  ".join(f"{name} {scores[name]:.4f}" for name in MEASURES))
    record.write(KEPT, {"command": f"python train.py {TRAIN}", "seeds": rows})
    for name in MEASURES:
        values = [row[name] for row in rows.values()]
        print(f"{name:<10} {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")


def run(script: str, options: str) -> None:
    command = [sys.executable, str(ROOT / f"{script}.py"), *options.split()]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
