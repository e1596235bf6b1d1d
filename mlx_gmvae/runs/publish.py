"""Upload of a finished run to the Hugging Face Hub."""

import json
import shlex
import tempfile
from pathlib import Path, PurePath
from typing import Any

from ..errors import InputError
from ..hub.model_files import NPZ, SAFETENSORS
from ..hub.repository import named
from ..hub.upload import require_token, upload
from ..report import tables
from ..report.card import is_card
from .checkpoint import load_info, load_model, save_model

CARD, METRICS, CONFIG = "README.md", "metrics.json", "config.json"
# Nothing that shows images of the data set: summary.html, reconstructions and progress.gif.
SHOWN = (
    "history.csv", "iterations.csv", "select_k.csv", "samples.png", "latent.png", "latent_pca.png",
    "latent_tsne.png", "curves.png", "select_k.png", "elbo.png", "accuracy.png",
)  # fmt: skip
ON_HUB = ("--features", "--init", "--push_to_hub")  # flags that take names of repositories


def push_to_hub(folder: str | Path, repository: str, private: bool = False) -> str:
    """Upload a finished run of `train.py` to the Hugging Face Hub, in one commit.

    The repository is created if it does not exist. It gets the model card, the weights as
    model.safetensors and model.npz, the configuration, the scores, the history and the diagrams.
    Of the paths on this machine only the last parts are uploaded, and no image of the data set is.
    This needs huggingface_hub and a token (`hf auth login`, or HF_TOKEN).

    Parameters
    ----------
    folder : str or Path
        The folder of the run.
    repository : str
        The name of the repository, ORG/NAME.
    private : bool, default=False
        Whether a repository that is created is private. A public one is then refused.

    Returns
    -------
    str
        The address of the repository.

    Raises
    ------
    InputError
        If the run is not finished, or the upload fails. It is a ValueError.

    Examples
    --------
    >>> push_to_hub("results/gmvae_digits_K10_dims_0008", "you/digits")  # doctest: +SKIP
    'https://huggingface.co/you/digits'
    """
    return publish(Path(folder), repository, private, "call push_to_hub again")


def publish(folder: Path, repository: str, private: bool, again: str) -> str:
    """Upload a run and return the address of the repository.

    `again` says how to repeat the upload, for messages. Raises InputError.
    """
    require_token(repository)
    with tempfile.TemporaryDirectory() as staged:
        return upload(repository, files_to_share(folder, Path(staged)), private, again)


def is_finished(folder: Path) -> bool:
    """Return whether a folder holds a run that was trained and evaluated."""
    names = (NPZ, METRICS, CARD)  # metrics.json is written last
    return all((folder / name).is_file() for name in names) and is_card(folder / CARD)


def files_to_share(folder: Path, staged: Path) -> dict[str, Path]:
    """Return the files of a run to upload, by name; those that are changed are in `staged`."""
    if not is_finished(folder):
        raise InputError(
            f"{folder} holds no finished run of train.py; if it is an interrupted one, finish it "
            f"with: python train.py --resume {folder}"
        )
    info, model = load_info(folder / NPZ), load_model(folder / NPZ).model
    parts = {key: info[key] for key in ("data", "training", "metrics") if info.get(key)}
    if "data" in parts:
        parts["data"] = data_to_share(parts["data"])
    for name in (NPZ, SAFETENSORS):
        save_model(staged / name, model, **parts)
    tables.write_json(staged / CONFIG, model.config.to_dict())
    tables.write_json(staged / METRICS, metrics_to_share(folder / METRICS))
    changed = {path.name: path for path in staged.iterdir()}
    kept = {name: folder / name for name in (CARD, *SHOWN) if (folder / name).is_file()}
    return changed | kept


def data_to_share(data: dict[str, Any]) -> dict[str, Any]:
    """Return the description of the training images without paths."""
    shared = data | {"dataset": last_part(str(data.get("dataset"))), "path": None}
    encoder = data.get("encoder")
    if isinstance(encoder, dict) and not encoder.get("revision"):  # a folder
        shared["encoder"] = encoder | {"repository": last_part(str(encoder.get("repository")))}
    return shared


def metrics_to_share(path: Path) -> dict[str, Any]:
    """Return the content of metrics.json with the paths in its commands shortened."""
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for session in metrics["made_with"].get("sessions", []):
            session["command"] = command_to_share(session["command"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}); train the run again") from None
    return metrics


def command_to_share(command: str) -> str:
    """Return a command with paths shortened to their last part.

    >>> command_to_share("python train.py --dataset /home/me/birds --features=org/encoder")
    'python train.py --dataset birds --features=org/encoder'
    """
    words: list[str] = []
    for word in shlex.split(command):
        flag, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
        of = flag or (words[-1] if words else "")
        is_repository = of.replace("-", "_").replace("__", "--", 1) in ON_HUB and named(value)
        words.append(flag + equals + (value if is_repository else last_part(value)))
    return shlex.join(words)


def last_part(path: str) -> str:
    """Return the last part of a path, and any other text as it is."""
    return PurePath(path).name or "." if "/" in path or path.startswith("~") else path
