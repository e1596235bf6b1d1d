"""Files of an encoder in a folder, in the layout of the Hugging Face Hub."""

import json
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..errors import InputError

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
LARGEST_JSON_BYTES = 1 << 24
MOST_SHARDS = 1000


class Files(NamedTuple):
    """Origin and files of an encoder."""

    repository: str  # the path of a folder, or the name of a repository
    revision: str  # the commit; empty for a folder
    config: Path
    processor: Path
    weights: list[Path]


def in_folder(folder: Path) -> Files:
    """Return the files of the encoder in a folder. Raises InputError if one is missing."""
    for name in (CONFIG, PROCESSOR):
        if not (folder / name).is_file():
            raise InputError(f"{folder} has no {name}; copy it there from the original encoder")
    if (folder / WEIGHTS).is_file():
        names = [WEIGHTS]
    elif (folder / INDEX).is_file():
        names = shards(folder / INDEX)
    else:
        raise no_weights(str(folder), any((folder / name).is_file() for name in PICKLES))
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder} has no {name}, which {INDEX} lists; copy it there")
    weights = [folder / name for name in names]
    return Files(str(folder), "", folder / CONFIG, folder / PROCESSOR, weights)


def shards(index: Path) -> list[str]:
    """Return the names of the shards, which are in the folder of the index. Raises InputError."""
    places = read_json(index).get("weight_map")
    names = set(map(str, places.values())) if isinstance(places, dict) else set()
    for name in names:
        if PurePosixPath(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{index} lists {name!r}, which is no .safetensors file beside it")
    if not 1 <= len(names) <= MOST_SHARDS:
        raise InputError(f"{index} lists {len(names)} files; download it again")
    return sorted(names)


def no_weights(place: str, has_pickle: bool) -> InputError:
    """Return the error for an encoder without a .safetensors file."""
    if has_pickle:
        return InputError(
            f"{place} has its weights in {PICKLES[0]} only, which is not read because a pickle can "
            f"run any program; choose a repository or revision with {WEIGHTS}"
        )
    return InputError(f"{place} has no {WEIGHTS}; choose another encoder")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises InputError."""
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise ValueError("it is far too large")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it contains no JSON object")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}); download it again") from None
    return content
