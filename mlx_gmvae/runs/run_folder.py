"""Run folders: the files that train.py writes, and that --resume reads."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from ..clustering.neighbours import neighbour_graph
from ..config import ModelConfig, TrainConfig
from ..data.dataset_spec import DatasetSpec
from ..data.images import Examples, crc32, have_features
from ..errors import InputError
from ..models import LatentVariableModel, kind_of
from ..report import tables
from ..report.card import is_card
from ..system.files import atomic_write
from ..training.trainer import Trainer
from .checkpoint import load_arrays, load_info, load_model, save_arrays, save_model
from .iterations import iteration_file
from .lock import Occupied, locked

WRITTEN = (  # files of a run; model.npz is last, since it marks a run until the rest is removed
    "reconstructions", "progress", "iterations", "tensorboard", "seed_*", "seeds.json",
    "summary", "number.csv", "number.png",  # names before version 0.3
    "state.npz",
    "best.npz", "metrics.json", "history.csv", "iterations.csv", "select_k.csv",
    "samples.png", "curves.png", "progress.gif", "select_k.png", "elbo.png", "accuracy.png",
    "latent.png", "latent_pca.png", "latent_tsne.png", "summary.html", "README.md",
    "model.npz",
)  # fmt: skip


def run_name(config: ModelConfig, dataset: str) -> str:
    """Return the folder name of a run: model, data, K and latent dimensions."""
    data = Path(dataset).stem or "data"
    components = f"_K{config.K}" if "K" in kind_of(config).options else ""
    return f"{config.model}_{data}{components}_dims_{config.latent_dims:04d}"


class SavedRun(NamedTuple):
    """Metadata in the state file of a run."""

    model: ModelConfig
    training: TrainConfig
    source: DatasetSpec
    progress: dict[str, Any]  # epoch, step, seconds, history
    record: dict[str, Any]  # see `provenance`


class RunFolder:
    """Paths of one run, and methods that write and read its files."""

    def __init__(self, path: Path):
        self.path = path
        self.model = path / "model.npz"
        self.state = path / "state.npz"
        self.neighbours = path / "neighbours.npz"
        self.best = path / "best.npz"
        self.metrics = path / "metrics.json"
        self.seeds = path / "seeds.json"

    @classmethod
    @contextlib.contextmanager
    def create(
        cls, outdir: str | None, name: str, overwrite: bool, held: contextlib.ExitStack
    ) -> Iterator["RunFolder"]:
        """Create the folder `outdir`, or results/<name>, with a number if that exists.

        It is locked until `held` is closed. A folder that was created here is removed after an
        error or an interrupt within the context. Raises InputError if another training runs in
        the folder, or if `outdir` holds a run and `overwrite` is false.
        """
        path, number = Path(outdir or Path("results") / name), 2
        is_new = False
        try:
            while True:
                is_new = not path.exists()  # set before, since Ctrl-C may come during the creation
                is_new = _made(path)
                if is_new or outdir is not None or overwrite:
                    break
                path, number = Path("results") / f"{name}-{number}", number + 1
            held.enter_context(locked(path))
            if _holds_run(path) and not overwrite:
                raise InputError(
                    f"{path} holds a run already; continue it with --resume {path}, replace it "
                    "with --overwrite, or choose another --outdir"
                )
            if (path / "README.md").is_file() and not is_card(path / "README.md"):
                raise InputError(f"{path} has a README.md of its own; choose another --outdir")
            yield cls(path)
        except Occupied:
            raise
        except BaseException:
            if is_new:
                shutil.rmtree(path, ignore_errors=True)
            raise

    def clear(self) -> None:
        """Remove the files of an earlier run, if there is one, except its neighbour graph.

        The state files are removed first, so that an incomplete run cannot be resumed.
        """
        if not _holds_run(self.path):
            return
        for pattern in (self.seeds.name, self.state.name, *WRITTEN):
            for stale in self.path.glob(pattern):
                if stale.is_dir():
                    is_run = stale.name.startswith("seed_")
                    with locked(stale) if is_run else contextlib.nullcontext():
                        shutil.rmtree(stale)
                else:
                    stale.unlink()

    @classmethod
    def open(cls, path: str) -> tuple["RunFolder", "SavedRun"]:
        """Open an existing run and read its state. Raises InputError if there is none."""
        folder = cls(Path(path))
        if not folder.state.is_file():
            raise InputError(f"{path} is not a run that can be resumed: it has no state.npz")
        info = load_info(folder.state)
        if info.get("kind") != "state":
            raise InputError(f"{folder.state} is not the state of a run")
        record = info.get("record")
        try:
            saved = SavedRun(
                ModelConfig.from_dict(info["model"]),
                TrainConfig.from_dict(info["training"]),
                DatasetSpec.from_dict(info["data"], folder.state),
                info["progress"],
                record if isinstance(record, dict) else {},
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder.state} does not describe a run ({error})") from None
        return folder, saved

    def save(self, trainer: Trainer, source: DatasetSpec, record: dict[str, Any]) -> None:
        """Write the model, the history, and the state, from which this step can be resumed.

        Raises InputError and writes nothing if the state is not finite.
        """
        trainer.require_finite()
        self.save_state(trainer, source, record)
        self.save_model(trainer, source)
        if trainer.history:
            tables.write_csv(self.path / "history.csv", trainer.history)

    def save_state(self, trainer: Trainer, source: DatasetSpec, record: dict[str, Any]) -> None:
        """Write the state file, which `open` and `restore` read."""
        arrays, progress = trainer.state()
        config, training = trainer.model.config.to_dict(), trainer.config.to_dict()
        info = {"kind": "state", "model": config, "training": training, "data": source.to_dict()}
        save_arrays(self.state, arrays, info | {"progress": progress, "record": record})

    def save_model(
        self, trainer: Trainer, source: DatasetSpec, metrics: dict[str, Any] | None = None
    ) -> None:
        """Write the current model with its metrics."""
        data = source.to_share() | {"training_images": len(trainer.images)}
        made_of = {"data": data, "training": _to_share(trainer.config)}
        save_model(self.model, trainer.model, **made_of, metrics=metrics)

    def move(self, source: DatasetSpec) -> None:
        """Update the location of the images in the saved files."""
        kept = sorted(iteration_file(self.path, 0).parent.glob("*.npz"))
        for path in (self.state, self.model, *kept):
            if not path.is_file():
                continue
            info = load_info(path)
            if isinstance(info.get("data"), dict):
                info["data"] |= source.to_dict()
                save_arrays(path, load_arrays(path), info)

    def restore(self, trainer: Trainer, saved: "SavedRun") -> None:
        """Restore a Trainer from the saved state."""
        try:
            trainer.restore(load_arrays(self.state), saved.progress)
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{self.state} does not fit this model ({error})") from None

    def of_seed(self, seed: int) -> "RunFolder":
        """Return the sub-folder for one of several seeds; they share the neighbour graph."""
        folder = RunFolder(self.path / f"seed_{seed}")
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.neighbours = self.neighbours
        return folder

    def adopt(self, seed: int) -> None:
        """Copy the files of a seed into this folder, which becomes an ordinary run.

        The state is copied last, in an atomic write, so a folder with a state is a complete run.
        """
        source = self.of_seed(seed)
        files = sorted(path for path in source.path.rglob("[!.]*") if path.is_file())
        for path in sorted(files, key=lambda path: path == source.state):
            with atomic_write(self.path / path.relative_to(source.path)) as copy:
                shutil.copyfile(path, copy)

    def load_neighbours(
        self,
        images: Examples,
        config: TrainConfig,
        graph: np.ndarray | None = None,
        checksum: int | None = None,
    ) -> np.ndarray:
        """Return the neighbour graph of a run's training images, built once and then read back.

        A given `graph` or `checksum` is not computed again. The checksum is of all images,
        including those held out for early stopping.
        """
        descriptor = "auto" if config.features else config.descriptor
        made_from = {"neighbours": config.neighbours, "descriptor": descriptor}
        made_from["features"] = _to_share(config)["features"]
        checksum = crc32(np.asarray(images[:])) if checksum is None else checksum
        made_from |= {"images": len(images), "crc32": checksum}
        if self.neighbours.is_file():
            saved = load_info(self.neighbours)
            if graph is None and _made_from(saved) == made_from:
                kept = np.array(load_arrays(self.neighbours).get("graph"))
                if not _is_graph(kept, len(images), config.neighbours):
                    raise InputError(f"{self.neighbours} is damaged; remove it to build it again")
                return kept
        if graph is None and config.features and not have_features(images):
            raise InputError(f"{self.neighbours}, made from {config.features}, is missing")
        if graph is None:
            graph = neighbour_graph(images, config.neighbours, config.descriptor)
        info = {"kind": "neighbours", "made_from": made_from}
        save_arrays(self.neighbours, {"graph": mx.array(graph)}, info)
        return graph

    def save_iteration(
        self, iteration: int, model: LatentVariableModel, source: DatasetSpec, config: TrainConfig
    ) -> None:
        """Save the model after an iteration of mutual learning."""
        made_of = {"data": source.to_share(), "training": _to_share(config)}
        save_model(iteration_file(self.path, iteration), model, **made_of)

    def save_best(self, model: LatentVariableModel) -> None:
        """Save the weights of the best epoch so far, for early stopping."""
        save_model(self.best, model)

    def load_best(self, model: LatentVariableModel) -> None:
        """Load the weights of the best epoch into `model`."""
        model.load_weights(list(load_model(self.best).model.arrays().items()))


def _made(path: Path) -> bool:
    """Create a folder; return whether this call created it, and not another run just now."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        path.mkdir(exist_ok=True)  # raises an error if it is a file
        return False
    return True


def _to_share(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration that may be shared: of the path to features only the name."""
    return config.to_dict() | {"features": config.features and Path(config.features).name}


def _made_from(saved: dict[str, Any]) -> Any:
    """Return the inputs of a saved neighbour graph; 0.2 stored the full path to the features."""
    made_from = saved.get("made_from")
    if isinstance(made_from, dict) and isinstance(made_from.get("features"), str):
        return made_from | {"features": Path(made_from["features"]).name}
    return made_from


def _is_graph(graph: np.ndarray, num: int, neighbours: int) -> bool:
    """Return whether an array is a neighbour graph of `num` images."""
    if graph.dtype != np.int32 or graph.shape != (num, min(neighbours, num - 1)):
        return False
    return not graph.size or (graph.min() >= 0 and graph.max() < num)


def _holds_run(path: Path) -> bool:
    names = ("model.npz", "state.npz", "seeds.json")
    written = [*(path / name for name in names), *path.glob("seed_*/state.npz")]
    return any(file.exists() for file in written)
