"""Write the tables of README.md and docs/: of benchmarks/results, and of the scripts' flags.

    python benchmarks/pages.py            # update the tables
    python benchmarks/pages.py --check    # only report whether they are up to date

A table stands between the comments `<!-- NAME -->` and `<!-- /NAME -->`. The function of that name
in TABLES writes it.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import record

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

# Sets of the comparison with other packages, and our runs on them.
ALTERNATIVES = {
    "digits": "digits, K=10",
    "MNIST 2,000": "MNIST 2,000",
    "letters": "letters, K=10",
    "1,000 photos": "1,000 photos, K=10, EfficientNet-Lite0",
}
# Tables of the clustering benchmark: rows by the experiment's name, in order.
CLUSTERING = {
    "main": {
        "MNIST, K=10": "MNIST, K = 10",
        "MNIST long-tailed, K=10": "long-tailed MNIST (class c keeps 0.1^(c/9) of its images)",
        "MNIST 2,000": "MNIST, 2,000 images, K = 10, a draw for each seed",
        "MNIST 2,000, 16x16": "MNIST, 2,000 images of 16x16, K = 10, a draw for each seed",
        "MNIST 1,000": "MNIST, 1,000 images, K = 10, a draw for each seed",
        "MNIST 300": "MNIST, 300 images, K = 10, a draw for each seed",
        "digits, K=10": "digits (8x8), K = 10",
        "digits 300": "300 digits (8x8), K = 10",
        "letters, K=10": "letters K to T of 2,001 typefaces, K = 10, `--latent_dims 16`",
        "letters in their frame": "letters, cropped and stretched to the frame, a tenth inverted",
        "letters 10:1": "letters, class c keeps 0.1^(c/9) of its images",
        "photos, K=10": "12,000 photographs (10 classes), K = 10, `--latent_dims 32` (44 epochs)",
        "photos, K=10, EfficientNet-Lite0": (
            "12,000 photographs, `--features` of EfficientNet-Lite0"
        ),
        "1,000 photos, K=10, EfficientNet-Lite0": (
            "1,000 photographs, K = 10, `--features` of EfficientNet-Lite0, a draw for each seed"
        ),
    },
    "number": {
        "digits, K auto": "digits, `--K auto`",
        "letters, K auto": "letters, `--K auto`",
        "MNIST 2,000, K auto": "MNIST, 2,000 images, `--K auto`, a draw for each seed",
        "MNIST 2,000, 16x16, K auto": (
            "MNIST, 2,000 images of 16x16, `--K auto`, a draw for each seed"
        ),
        "digits, K=16": "digits, K = 16",
        "digits, K=16, free balance": "digits, K = 16, `--balance free`",
    },
    "ablations": {
        "digits, K=10": "defaults",
        "digits, plain ELBO": "ELBO alone (`--pair_weight 0`)",
        "digits, one head": "one head (`--heads 1`)",
        "digits, uniform": "no over-clustering (`--balance uniform`)",
        "digits, no neighbours": "no neighbours (`--neighbours 0`)",
        "digits, neighbours by pixels": "neighbours by pixels (`--descriptor pixels`)",
        "digits, no augmentation": "no augmentation (`--augment none`)",
        "digits, affine": "without strokes (`--augment affine`)",
    },
}
EXPERIMENTS = {name: title for rows in CLUSTERING.values() for name, title in rows.items()}
BASELINES = {  # data sets, and the experiment that each is compared with
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
MAIN_SCORES = 5  # the first of them
NAMES = {
    "MNIST long-tailed": "long-tailed MNIST",
    "photos": "photographs",
    "digits, as a table": "digits (64 columns)",
}
METHODS = ("k-means", "Gaussian mixture", "spectral")
WORKLOADS = {
    "VAE conv, 64x64x1, batch 128": "VAE 64x64",
    "GMVAE conv, 28x28x1, batch 256": "GMVAE 28x28",
    "GMVAE mlp, 28x28x1, batch 256": "GMVAE 28x28, `mlp`",
    "VAE conv, 256x256x3, batch 16": "VAE 256x256, colour",
}
ROWS = {
    "ours": "mlx_gmvae",
    "plain MLX, OpenBLAS": "plain MLX (strided and upsampling convolutions), OpenBLAS",
    "plain MLX, wheel BLAS": "plain MLX, the BLAS of MLX's Linux wheel",
    "PyTorch": "PyTorch",
    "PyTorch, channels last": "PyTorch, channels last",
    "PyTorch, torch.compile": "PyTorch, `torch.compile`",
    "PyTorch, OpenBLAS": "PyTorch, OpenBLAS preloaded",
}
PEERS = {
    "ours, as many layers": "mlx_gmvae, one hidden layer, constant learning rate",
    "ours, two layers": "mlx_gmvae, two hidden layers, constant learning rate",
    "ours, default": "mlx_gmvae, two hidden layers, cosine schedule (default)",
}
DECODED = {"frey": "Frey faces", "photos": "photographs (32x32)", "crops": "crops (128x128)"}
ANOMALY_CASES = {
    "digits among letters": "trained on letters, anomalies: digits",
    "letters among digits": "trained on digits, anomalies: letters",
    "photographs": "trained on one class of photographs, anomalies: the other nine",
}
SERVER_FAULTS = {
    "cut": "closes the connection early",
    "cut without a length": "closes early, no Content-Length",
    "stalls at once": "stalls before it answers",
    "stalls half way": "stalls in mid-transfer",
    "trickles": "sends one byte at a time",
    "resets at once": "resets the connection at once",
    "resets half way": "resets in mid-transfer",
    "redirects to a file": "redirects to a file:// address",
    "a page of HTML": "sends an HTML page",
    "404": "answers with status 404",
    "500": "answers with status 500",
    "nothing": "sends an empty body",
    "one byte wrong": "sends one wrong byte",
    "more than there is": "sends one byte too many",
    "endless": "sends an endless body",
    "a length that is none": "sends a Content-Length that is not a number",
    "a negative length": "sends a negative Content-Length",
    "no HTTP": "does not speak HTTP",
    "headers without end": "sends thousands of headers",
}
# Words of the soak test and what stands for them, in the order in which they are replaced.
FAULTS: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"^a server: (.*)": lambda found: "server " + SERVER_FAULTS.get(found[1], found[1]),
    "^two processes that download at once": "two processes download the same file",
    "^names that want to be markup, in pages": "file and class names with HTML or scripts in them",
    "^(mutated|fuzzed) sets": r"\1 data sets",
    "^(mutated|fuzzed) pictures, in a folder": r"\1 images, in a folder",
    "^(mutated|fuzzed) pictures": r"\1 images",
    "^rates at": "learning rates at",
    "^odd sets, trained on and looked at": "degenerate data sets: training and evaluation",
    "^killed: one of two, or (.*)": r"one of two processes, or `\1`, killed",
    "^killed: photographs": "killed and resumed: a folder of photographs",
    "^killed: ": "killed and resumed: ",
    "^the same seed twice": "two trainings with the same seed: identical weights",
    "^full disk: photographs": "full disk: a folder of photographs",
    "megabytes": "MB of memory",
    "descriptors": "open files",
    "^leaks over ([0-9,]+) steps": r"leaks over \1 training steps",
    "^memory of ": "announced memory within 30 %: ",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    outdated = [path.name for path in pages() if update(path, write=not check)]
    print(f"{'outdated' if check else 'written'}: {', '.join(outdated) or 'none'}")
    sys.exit(bool(check and outdated))


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def update(path: Path, write: bool = True) -> bool:
    """Update a page; return whether it was out of date."""
    text = path.read_text()
    fresh = updated(text)
    if write and fresh != text:
        path.write_text(fresh)
    return fresh != text


def updated(text: str, tables: dict[str, Callable[[], str]] | None = None) -> str:
    """Return a page with each of its tables written from the results."""
    tables = tables or TABLES

    def table(found: re.Match[str]) -> str:
        name = found[1]
        content = tables[name]()
        if name in MEASURED:
            content += f"\n\nMeasured with version {record.versions_of(MEASURED[name])}."
        return f"<!-- {name} -->\n{content}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", table, text, flags=re.DOTALL)


def kept(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(header)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "\n".join(re.sub(r"\|  (?=\|)", "| ", "| " + " | ".join(line) + " |") for line in lines)


def spread(values: list[float], digits: int) -> str:
    """Return the mean and the sample standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def clustering(table: str | None = None) -> str:
    """Return one table of the clustering benchmark, or all rows in one."""
    results = kept("clustering")
    header = (
        "data and options", "seeds", "ACC", "worst seed", "majority ACC", "exemplar ACC", "NMI",
        "ARI", "calibration error", "sample purity", "ELBO", "minutes", "version",
    )  # fmt: skip
    rows = [
        [
            *clustering_row(title, list(results[name].values())),
            record.versions_of("clustering", f"{name}, seed"),
        ]
        for name, title in (CLUSTERING[table] if table else EXPERIMENTS).items()
        if name in results
    ]
    return markdown(header, rows)


def clustering_row(title: str, runs: list[dict[str, Any]]) -> list[str]:
    def mean(name: str, digits: int) -> str:
        return f"{100 * statistics.mean(run['clustering'][name] for run in runs):.{digits}f}"

    if "K auto" in title:
        found = [str(len(run["cluster_sizes"])) for run in runs]
        several = ", ".join(found[:-1]) + " and " + found[-1]
        every = f"{found[0]} in every run" if len(set(found)) == 1 else several
        title += f" (found {every})"
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
        rows.append([NAMES.get(name, name), *row])
    return markdown(["data", *METHODS, "`train.py`"], rows)


def alternatives() -> str:
    """Return accuracies (mean and worst seed) and seconds of other packages, and of ours."""
    results, ours = kept("alternatives"), kept("clustering")
    columns = [name for name in ALTERNATIVES if name in results]
    methods = list(dict.fromkeys(method for name in columns for method in results[name]))

    def cell(runs: list[dict[str, Any]]) -> str:
        accuracies = [100 * run["accuracy"] for run in runs]
        known = [run["seconds"] for run in runs if run["seconds"] is not None]
        took = f", {statistics.mean(known):,.0f} s" if known else ""
        return f"{statistics.mean(accuracies):.1f} ({min(accuracies):.1f}){took}"

    rows = []
    for method in methods:
        found = [results[name].get(method) for name in columns]
        package = next(each["package"] for each in found if each)
        cells = [cell(list(each["seeds"].values())) if each else "" for each in found]
        rows.append([f"{method} ({package})", *cells])
    own = [
        [run | {"accuracy": run["clustering"]["accuracy"]} for run in ours[name].values()]
        for name in (ALTERNATIVES[each] for each in columns)
    ]
    rows.append(["**`train.py`**", *(cell(runs) for runs in own)])
    return markdown(["method", *columns], rows)


def published() -> str:
    rows = [
        [each[name] for name in ("method", "accuracy", "protocol")] for each in kept("published")
    ]
    return markdown(["method", "ACC on MNIST (%)", "protocol"], rows)


def peers() -> str:
    rows = [
        [
            PEERS.get(name, f"{name}, one hidden layer, constant learning rate"),
            f"{found['parameters']:,}", f"{found['elbo']:.1f}", f"{found['seconds'] / 60:.1f}",
        ]
        for name, found in kept("peers")["models"].items()
    ]  # fmt: skip
    return markdown(["model", "parameters", "ELBO", "minutes"], rows)


def mutual_learning() -> str:
    seeds = [runs for name, runs in kept("mutual_learning").items() if name.startswith("seed")]
    iterations = range(len(seeds[0]))

    def row(title: str, name: str, factor: float) -> list[str]:
        return [title, *(spread([factor * s[i][name] for s in seeds], 1) for i in iterations)]

    rows = [row("ACC (%)", "accuracy", 100), row("ELBO", "elbo", 1)]
    return markdown(["iteration", *map(str, iterations)], rows)


def tables() -> str:
    results = kept("tables")
    methods = list(results["iris"])
    rows = []
    for name, found in results.items():
        scores = [found[method]["ari"] for method in methods]
        figures = (f"{statistics.mean(s):.2f} ({min(s):.2f})" for s in scores)
        rows.append([NAMES.get(name, name), *figures])
    return markdown(["data", *methods], rows)


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
    return markdown(["images per second", *WORKLOADS.values()], rows)


def decoders() -> str:
    names = {"bits_per_dim": "bits per dimension", "mse": "MSE", "ssim": "SSIM"}
    rows = [
        [DECODED[data], decoder, str(found["epochs"]), *(f"{found[name]:.4g}" for name in names)]
        for data, decoders in kept("decoders").items()
        for decoder, found in decoders.items()
    ]
    return markdown(["data", "likelihood", "epochs", *names.values()], rows)


def anomalies() -> str:
    """Return AUCs by score and data set; all scores for the default likelihood only."""
    results = kept("anomalies")
    cases = list(results["bernoulli"])
    rows = []
    for likelihood, found in results.items():
        for score in ANOMALY_SCORES[: None if likelihood == "bernoulli" else MAIN_SCORES]:
            row = [likelihood.capitalize(), score.replace("elbo", "ELBO")]
            for case in cases:
                values = [run[score] for run in found.get(case, {}).values()]
                row.append(spread(values, 3) if values else "")
            rows.append(row)
    return markdown(["model", "score", *(ANOMALY_CASES[case] for case in cases)], rows)


def frechet() -> str:
    titles = {
        "distance": ("Fréchet distance", 1, 2), "sample_purity": ("sample purity (%)", 100, 1),
        "elbo": ("ELBO", 1, 1), "importance_bound": ("importance-weighted bound", 1, 1),
        "ssim": ("SSIM", 1, 3), "accuracy": ("ACC (%)", 100, 2),
    }  # fmt: skip
    rows = [
        [name, *(f"{factor * found[key]:.{digits}f}" if key in found else ""
                 for key, (_, factor, digits) in titles.items())]
        for name, found in kept("frechet").items()
    ]  # fmt: skip
    return markdown(["model", *(title for title, _, _ in titles.values())], rows)


def soak() -> str:
    rows = [
        [fault(row["fault"]), f"{row['tried']:,}", f"{row['survived']:,}", f"`{part['command']}`"]
        for part in kept("soak").values()
        for row in part["rows"]
    ]
    return markdown(["fault", "cases", "passed", "command"], rows)


def fault(name: str) -> str:
    """Return the row label of a fault of the soak test."""
    for pattern, words in FAULTS.items():
        name = re.sub(pattern, words, name)
    return name


def flags(script: str | None) -> str:
    """Return the flags of a script alone, or those that several scripts share."""
    import flag_tables  # needs the package, which takes longer than all other tables

    return flag_tables.shared() if script is None else flag_tables.own(script)


# Tables that one result file fills, named by the file. Others name versions in their rows.
MEASURED = {
    name: name
    for name in (
        "alternatives", "anomalies", "decoders", "frechet", "mutual_learning", "peers", "soak",
        "tables", "throughput",
    )
}  # fmt: skip
TABLES: dict[str, Callable[[], str]] = {
    "clustering": partial(clustering, "main"),
    "number_of_clusters": partial(clustering, "number"),
    "ablations": partial(clustering, "ablations"),
    "baselines": baselines,
    "alternatives": alternatives,
    "published": published,
    "peers": peers,
    "mutual_learning": mutual_learning,
    "tables": tables,
    "throughput": throughput,
    "decoders": decoders,
    "anomalies": anomalies,
    "frechet": frechet,
    "soak": soak,
    "flags_shared": partial(flags, None),
    "flags_train": partial(flags, "train"),
    "flags_cluster": partial(flags, "cluster"),
    "flags_generate": partial(flags, "generate"),
    "flags_reconstruct": partial(flags, "reconstruct"),
}

if __name__ == "__main__":
    main()
