"""With what a run was made: its images, and for each time it was started or resumed how and where.

With the same of all this the same weights come out, bit for bit.
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
DECISIVE = ("mlx_gmvae", "mlx", "device", "threads", "processes")  # for the bits of weights
INITIAL = ("name", "crc32")  # of a model file that a run starts from


def environment() -> dict[str, Any]:
    """Versions, the device with its BLAS and kernels, and how many threads and processes work."""
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
    """By what images are known again."""
    return {"number": len(dataset), "crc32": f"{dataset.crc32:08x}"}


def file_of(path: str | Path) -> dict[str, str]:
    """By what a model file is known again."""
    return {"name": Path(path).name, "crc32": f"{zlib.crc32(Path(path).read_bytes()):08x}"}


def started(
    dataset: Dataset,
    command: str,
    initial: dict[str, str] | None = None,
    reasons: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The record of a run on the training images `dataset` that `command` starts.

    `initial` is what `file_of` says of the model file that it starts from, if there is one, and
    `reasons` are those of what the images decided.
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
    """`record` when `command` goes on from there; one of the first version's runs has none."""
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
    """`record` for files that others may get: in commands the user's home folder is ~."""
    commands = [without_home(str(each.get("command", ""))) for each in record["sessions"]]
    sessions = [
        each | {"command": command}
        for each, command in zip(record["sessions"], commands, strict=True)
    ]
    return record | {"sessions": sessions}


def in_words(record: dict[str, Any]) -> dict[str, str]:
    """The checksum of the images, and each part of the environment, also what it became later."""
    sessions = record["sessions"]
    names = [name for name in sessions[-1] if name not in ("command", "epoch", "step")]
    values = {name: dict.fromkeys(str(each.get(name)) for each in sessions) for name in names}
    words = {name: ", then ".join(several) for name, several in values.items()}
    made_of = {"crc32 of the training images": record["images"]["crc32"]}
    if "init" in record:
        made_of["started from"] = "{name}, crc32 {crc32}".format(**record["init"])
    return made_of | words


def knows_images(record: dict[str, Any]) -> bool:
    """Whether a run's record says by what its images are known; the first version's does not."""
    return isinstance(record.get("images"), dict)


def require_same_images(record: dict[str, Any], dataset: Dataset, place: str) -> None:
    """Raise InputError if `dataset` is not what the run in `place` was trained on."""
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
    """What is decisive and different now from when the run was last started; else nothing."""
    sessions, now = record.get("sessions"), environment()
    before = sessions[-1] if isinstance(sessions, list) and sessions else None
    if not isinstance(before, dict):
        return ""
    different = [name for name in DECISIVE if before.get(name) != now[name]]
    return ", ".join(f"{name} {now[name]} instead of {before.get(name)}" for name in different)
