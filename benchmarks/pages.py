"""Write the tables of README.md and docs/ from what is kept in benchmarks/results.

    python benchmarks/pages.py            # bring them up to date
    python benchmarks/pages.py --check    # only say whether they are

A table stands between two comments, `<!-- NAME -->` and `<!-- /NAME -->`, and is written by the
function in TABLES of that name.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

# Titles of the clustering benchmark's experiments, in the order of the table.
EXPERIMENTS = {
    "MNIST, K=10": "MNIST, K = 10",
    "MNIST, K=10, uniform": "the same, `--balance uniform --augment affine`",
    "MNIST, K=10, plain ELBO": "the same, plain ELBO (`--pair_weight 0`)",
    "MNIST, K auto": "MNIST, `--K auto`",
    "MNIST, K=16": "MNIST, K = 16, 5 epochs (*)",
    "MNIST, K=16, free balance": "MNIST, K = 16, `--balance free` (*)",
    "MNIST, K=30": "MNIST, K = 30, 5 epochs (*)",
    "MNIST, K=30, free balance": "MNIST, K = 30, `--balance free` (*)",
    "MNIST 1/4/8, K=3, uniform": "MNIST, digits 1, 4 and 8, K = 3, 10 epochs (*)",
    "MNIST 1/4/8, K auto": "MNIST, digits 1, 4 and 8, `--K auto`, 10 epochs",
    "MNIST, K=10, neighbours by pixels": "MNIST, K = 10, 5 epochs, `--descriptor pixels` (*)",
    "MNIST, K=10, no neighbours": "MNIST, K = 10, 5 epochs, `--neighbours 0` (*)",
    "MNIST, K=10, no distortion": "MNIST, K = 10, 5 epochs, `--augment none` (*)",
    "MNIST long-tailed, K=10": "MNIST, class c cut to 0.1^(c/9) of its images, K = 10, 8 epochs",
    "letters, K=10": "letters K to T of 2,001 typefaces, K = 10, `--latent_dims 16`",
    "letters, K auto": "letters, `--K auto`",
    "letters in their frame": "letters cropped and stretched to the frame, a tenth inverted",
    "MNIST 2,000": "2,000 images of MNIST, a draw a seed",
    "MNIST 2,000, 16x16": "2,000 images of MNIST at 16x16, a draw a seed",
    "MNIST 300": "300 images of MNIST, a draw a seed",
    "digits 300": "300 digits (8x8)",
    "digits, K=10": "digits (8x8), K = 10",
    "digits, K=10, one head": "digits, one last layer (`--heads 1`) (*)",
    "digits, K=10, plain ELBO": "digits, plain ELBO",
    "digits, K auto": "digits, `--K auto`",
    "digits, K=16": "digits, K = 16 (*)",
    "digits, K=16, free balance": "digits, K = 16, `--balance free` (*)",
    "photos, K=10": "12,000 photographs (10 kinds), K = 10, `--latent_dims 32` (44 epochs)",
    "photos, K=10, 12 epochs": "photographs, 12 epochs",
    "photos, K=10, 105 epochs": "photographs, 105 epochs",
    "photos, K=10, 190 epochs": "photographs, 190 epochs",
    "photos, K=10, 12 epochs, own features": (
        "photographs, 12 epochs, the built-in patches given as `--features`"
    ),
    "photos, K=10, EfficientNet-Lite0": ("12,000 photographs, `--features` of EfficientNet-Lite0"),
    "1,000 photos, K=10, EfficientNet-Lite0": (
        "1,000 photographs, `--features` of EfficientNet-Lite0, a draw a seed"
    ),
    "photos, K=10, uniform": "photographs, `--classifier conv --descriptor hog` (*)",
}
BASELINES = {  # sets by the experiment that they stand beside
    "MNIST": "MNIST, K=10",
    "MNIST long-tailed": "MNIST long-tailed, K=10",
    "letters": "letters, K=10",
    "digits": "digits, K=10",
    "photos": "photos, K=10",
}
ANOMALY_SCORES = (
    "deviance", "importance", "elbo", "MSE", "1 - SSIM", "likelihood ratio", "typicality",
    "typicality of the deviance", "input complexity",
)  # fmt: skip
MAIN_SCORES = 5  # the first ones
METHODS = ("k-means", "Gaussian mixture", "spectral")
WORKLOADS = {
    "VAE conv, 64x64x1, batch 128": "VAE 64x64",
    "GMVAE conv, 28x28x1, batch 256": "GMVAE 28x28",
    "GMVAE mlp, 28x28x1, batch 256": "GMVAE 28x28, `mlp`",
    "VAE conv, 256x256x3, batch 16": "VAE 256x256, colour",
}
ROWS = {
    "ours": "ours",
    "plain MLX, OpenBLAS": "strided conv, nearest + conv in MLX, OpenBLAS",
    "plain MLX, wheel BLAS": "the same, the BLAS in MLX's Linux wheel",
    "PyTorch": "PyTorch",
    "PyTorch, channels last": "PyTorch, channels last",
    "PyTorch, torch.compile": "PyTorch, `torch.compile`",
    "PyTorch, OpenBLAS": "PyTorch, OpenBLAS loaded before it",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    outdated = [path.name for path in pages() if update(path, write=not check)]
    print(f"{'outdated' if check else 'written'}: {', '.join(outdated) or 'none'}")
    sys.exit(bool(check and outdated))


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def update(path: Path, write: bool = True) -> bool:
    """Bring a page up to date; whether it was not."""
    text = path.read_text()
    fresh = updated(text)
    if write and fresh != text:
        path.write_text(fresh)
    return fresh != text


def updated(text: str, tables: dict[str, Callable[[], str]] | None = None) -> str:
    """A page with each of its tables as the results have it."""
    tables = tables or TABLES

    def table(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- {name} -->\n{tables[name]()}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", table, text, flags=re.DOTALL)


def kept(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(header)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "\n".join(re.sub(r"\|  (?=\|)", "| ", "| " + " | ".join(line) + " |") for line in lines)


def spread(values: list[float], digits: int) -> str:
    """Mean and sample standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def clustering() -> str:
    results = kept("clustering")
    header = (
        "", "seeds", "ACC %", "worst", "many-to-one: most frequent", "most confident", "NMI", "ARI",
        "calibration error", "purity", "ELBO", "minutes",
    )  # fmt: skip
    rows = [
        clustering_row(title, list(results[name].values()))
        for name, title in EXPERIMENTS.items()
        if name in results
    ]
    return markdown(header, rows)


def clustering_row(title: str, runs: list[dict[str, Any]]) -> list[str]:
    def mean(name: str, digits: int) -> str:
        return f"{100 * statistics.mean(run['clustering'][name] for run in runs):.{digits}f}"

    if "K auto" in title:
        found = [str(len(run["cluster_sizes"])) for run in runs]
        several = ", ".join(found[:-1]) + " and " + found[-1]
        every = f"{found[0]} clusters each time" if len(set(found)) == 1 else f"{several} clusters"
        title += f" ({every})"
    accuracies = [100 * run["clustering"]["accuracy"] for run in runs]
    purities = [run["sample_purity"] for run in runs if run.get("sample_purity") is not None]
    seconds = [run["seconds"] for run in runs if run["seconds"] is not None]
    return [
        title,
        str(len(runs)),
        spread(accuracies, 2),
        f"{min(accuracies):.2f}",
        mean("majority_accuracy", 2),
        mean("exemplar_accuracy", 2),
        mean("nmi", 1),
        mean("ari", 1),
        mean("calibration_error", 1),
        f"{100 * statistics.mean(purities):.1f}" if purities else "",
        f"{statistics.mean(run['generative']['elbo'] for run in runs):.1f}",
        f"{statistics.mean(seconds) / 60:.1f}" if seconds else "",
    ]


def baselines() -> str:
    results = kept("clustering")
    rows = []
    for name, experiment in BASELINES.items():
        found = results["baselines"].get(name, {})
        ours = [run["clustering"]["accuracy"] for run in results[experiment].values()]
        scores = [*(found.get(method, []) for method in METHODS), ours]
        row = [f"{100 * statistics.mean(some):.1f}" if some else "" for some in scores]
        rows.append([name.replace("photos", "photographs"), *row])
    return markdown(["", *METHODS, "`train.py`"], rows)


def headline() -> str:
    results = kept("clustering")
    rows = []
    for name, experiment in BASELINES.items():
        runs = [100 * run["clustering"]["accuracy"] for run in results[experiment].values()]
        found = results["baselines"].get(name, {})
        best = max(((statistics.mean(s), m) for m, s in found.items()), default=None)
        others = f"{100 * best[0]:.1f} ({best[1]})" if best else ""
        title = EXPERIMENTS[experiment]
        rows.append([title, str(len(runs)), spread(runs, 1), f"{min(runs):.1f}", others])
    return markdown(["", "seeds", "`train.py`", "worst", "scikit-learn"], rows)


def published() -> str:
    rows = [
        [each[name] for name in ("method", "accuracy", "protocol")] for each in kept("published")
    ]
    return markdown(["MNIST", "ACC %", "protocol"], rows)


def peers() -> str:
    rows = [
        [name, f"{found['parameters']:,}", f"{found['elbo']:.1f}", f"{found['seconds'] / 60:.1f}"]
        for name, found in kept("peers")["models"].items()
    ]
    return markdown(["", "parameters", "ELBO", "minutes"], rows)


def mutual_learning() -> str:
    seeds = [runs for name, runs in kept("mutual_learning").items() if name.startswith("seed")]
    iterations = range(len(seeds[0]))

    def row(title: str, name: str, factor: float) -> list[str]:
        return [title, *(spread([factor * s[i][name] for s in seeds], 1) for i in iterations)]

    rows = [row("ACC %", "accuracy", 100), row("ELBO", "elbo", 1)]
    return markdown(["iteration", *map(str, iterations)], rows)


def tables() -> str:
    results = kept("tables")
    methods = list(results["iris"])
    rows = []
    for name, found in results.items():
        scores = [found[method]["ari"] for method in methods]
        rows.append([name, *(f"{statistics.mean(s):.2f}, {min(s):.2f}" for s in scores)])
    return markdown(["", *methods], rows)


def throughput() -> str:
    results = kept("throughput")["results"]
    rows = []
    for name, title in ROWS.items():
        row = [title]
        for workload in WORKLOADS:
            found = results[workload]["rows"].get(name)
            shown = "" if found is None else f"{found['images_per_second']:.0f}"
            is_other = found is not None and name != "ours"
            row.append(f"{shown} ({found['ours_over_row_clock']:.2f})" if is_other else shown)
        rows.append(row)
    return markdown(["", *WORKLOADS.values()], rows)


def decoders() -> str:
    names = {"bits_per_dim": "bits per dimension", "mse": "MSE", "ssim": "SSIM"}
    rows = [
        [data, decoder, str(found["epochs"]), *(f"{found[name]:.4g}" for name in names)]
        for data, decoders in kept("decoders").items()
        for decoder, found in decoders.items()
    ]
    return markdown(["", "likelihood", "epochs", *names.values()], rows)


def anomalies() -> str:
    """AUCs by score and set: all scores of the default likelihood, the main ones of the others."""
    results = kept("anomalies")
    cases = list(results["bernoulli"])
    rows = []
    for likelihood, found in results.items():
        for score in ANOMALY_SCORES[: None if likelihood == "bernoulli" else MAIN_SCORES]:
            row = [likelihood, score]
            for case in cases:
                values = [run[score] for run in found.get(case, {}).values()]
                row.append(spread(values, 3) if values else "")
            rows.append(row)
    return markdown(["model", "score", *cases], rows)


def frechet() -> str:
    titles = {
        "distance": ("distance", 1, 2), "sample_purity": ("purity %", 100, 1),
        "elbo": ("ELBO", 1, 1), "importance_bound": ("bound, 100 samples", 1, 1),
        "ssim": ("SSIM", 1, 3), "accuracy": ("ACC %", 100, 2),
    }  # fmt: skip
    rows = [
        [name, *(f"{factor * found[key]:.{digits}f}" if key in found else ""
                 for key, (_, factor, digits) in titles.items())]
        for name, found in kept("frechet").items()
    ]  # fmt: skip
    return markdown(["", *(title for title, _, _ in titles.values())], rows)


def soak() -> str:
    rows = [
        [row["fault"], f"{row['tried']:,}", f"{row['survived']:,}", f"`{part['command']}`"]
        for part in kept("soak").values()
        for row in part["rows"]
    ]
    return markdown(["fault", "tried", "survived", "command"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "headline": headline,
    "clustering": clustering,
    "baselines": baselines,
    "published": published,
    "peers": peers,
    "mutual_learning": mutual_learning,
    "tables": tables,
    "throughput": throughput,
    "decoders": decoders,
    "anomalies": anomalies,
    "frechet": frechet,
    "soak": soak,
}

if __name__ == "__main__":
    main()
