"""Provenance of a run: its images, and the command and environment of each start and resume.

Runs with the same provenance give the same weights, bit for bit.
"""

import platform
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.splits import Dataset
from ..device import backend, distributed
from ..errors import InputError
from ..system.cache import without_home

PACKAGES = ("mlx", "numpy", "pillow", "scikit-learn")
DECISIVE = (
    "mlx_gmvae",
    "mlx",
    "device",
    "threads",
    "processes",
)  # these affect the bits of the weights
INITIAL = ("name", "crc32")  # of the model file that a run starts from


def environment() -> dict[str, Any]:
    """Return versions, the device with its BLAS and kernels, and thread and process counts."""
    return {
        "mlx_gmvae": __version__,
        **{name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": backend.describe_device(),
        "threads": backend.cores(),
        "processes": distributed.size(),
    }


def images_of(dataset: Dataset) -> dict[str, Any]:
    """Return the fingerprint of images: their number and checksum."""
    return {"number": len(dataset), "crc32": f"{dataset.crc32:08x}"}


def file_of(path: Path, name: str) -> dict[str, str]:
    """Return the fingerprint of a model file: its name and checksum."""
    return {"name": name, "crc32": f"{zlib.crc32(path.read_bytes()):08x}"}


def started(
    dataset: Dataset,
    command: str,
    initial: dict[str, str] | None = None,
    reasons: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return the record of a run that `command` starts on the training images `dataset`.

    `initial` is the result of `file_of` for the model file that the run starts from, if there is
    one. `reasons` has the reasons for options that were chosen from the images.
    """
    session = {"command": command, "epoch": 0, "step": 0, **environment()}
    record: dict[str, Any] = {"images": images_of(dataset), "sessions": [session]}
    if initial is not None:
        record["init"] = initial
    if reasons:
        record["decided"] = reasons
    return record


def resumed(
    record: dict[str, Any], dataset: Dataset, command: str, epoch: int, step: int
) -> dict[str, Any]:
    """Return `record` with a session of `command` added; old runs have an empty record."""
    session = {"command": command, "epoch": epoch, "step": step, **environment()}
    before = record.get("sessions")
    before = [each for each in before if isinstance(each, dict)] if isinstance(before, list) else []
    known: dict[str, Any] = {"images": images_of(dataset), "sessions": [*before, session]}
    initial = record.get("init")
    if isinstance(initial, dict) and all(isinstance(initial.get(k), str) for k in INITIAL):
        known["init"] = {name: initial[name] for name in INITIAL}
    decided = record.get("decided")
    if isinstance(decided, dict):
        known["decided"] = {str(name): str(reason) for name, reason in decided.items()}
    return known


def to_share(record: dict[str, Any]) -> dict[str, Any]:
    """Return `record` for files that may be shared: in commands the home folder is ~."""
    commands = [without_home(str(each.get("command", ""))) for each in record["sessions"]]
    sessions = [
        each | {"command": command}
        for each, command in zip(record["sessions"], commands, strict=True)
    ]
    return record | {"sessions": sessions}


def in_words(record: dict[str, Any]) -> dict[str, str]:
    """Return the fingerprints and the environment as text, with changes in later sessions."""
    sessions = record["sessions"]
    names = [name for name in sessions[-1] if name not in ("command", "epoch", "step")]
    values = {name: dict.fromkeys(str(each.get(name)) for each in sessions) for name in names}
    words = {name: ", then ".join(several) for name, several in values.items()}
    made_of = {"crc32 of the training images": record["images"]["crc32"]}
    if "init" in record:
        made_of["started from"] = "{name}, crc32 {crc32}".format(**record["init"])
    return made_of | words


def knows_images(record: dict[str, Any]) -> bool:
    """Return whether a record has the fingerprint of the images; the first version had none."""
    return isinstance(record.get("images"), dict)


def require_same_images(record: dict[str, Any], dataset: Dataset, place: str) -> None:
    """Raise InputError unless the run in `place` was trained on `dataset`."""
    before, now = record.get("images"), images_of(dataset)
    if not isinstance(before, dict) or before == now:
        return
    what = f"their checksum is {now['crc32']} instead of {before.get('crc32')}"
    if before.get("number") != now["number"]:
        what = f"there are {now['number']} instead of {before.get('number')}"
    raise InputError(
        f"the training images in {dataset.name} are not those that the run in {place} was trained "
        f"on: {what}; put them back, or train a new run on these"
    )


def changes(record: dict[str, Any]) -> str:
    """Return the changes since the last start that affect the weights, or an empty text."""
    sessions, now = record.get("sessions"), environment()
    before = sessions[-1] if isinstance(sessions, list) and sessions else None
    if not isinstance(before, dict):
        return ""
    different = [name for name in DECISIVE if before.get(name) != now[name]]
    return ", ".join(f"{name} {now[name]} instead of {before.get(name)}" for name in different)
