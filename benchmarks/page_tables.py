"""Tables of README.md and docs/, written from benchmarks/results and the scripts' flags."""

import json
import re
import statistics
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import record
from page_words import (
    ALTERNATIVES,
    ANOMALY_CASES,
    ANOMALY_SCORES,
    BASELINES,
    CLUSTERING,
    DECODED,
    EXPERIMENTS,
    FAULTS,
    MAIN_SCORES,
    METHODS,
    NAMES,
    PEERS,
    ROWS,
    WORKLOADS,
)

RESULTS = record.RESULTS


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


# Tables that one part of the results fills: its file, and how the names of its parts begin. Others
# name versions in their rows.
MEASURED = {
    name: (name, "")
    for name in (
        "alternatives", "anomalies", "decoders", "frechet", "mutual_learning", "peers", "soak",
        "tables", "throughput",
    )
} | {"baselines": ("clustering", "baselines")}  # fmt: skip
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
