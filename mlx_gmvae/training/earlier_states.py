"""Conversion of training states that earlier versions saved."""

from typing import Any

import mlx.core as mx
import numpy as np


def from_0_2(
    arrays: dict[str, mx.array], progress: dict[str, Any]
) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """Convert a state of version 0.2 to the current format; a current state stays as it is."""
    renamed = {".parts.": ".sub_clusters.", ".patches.kinds": ".patches.codebook"}
    known = {}
    for name, value in arrays.items():
        for before, now in renamed.items():
            name = name.replace(before, now)
        known[name] = value
    progress = {"has_codebook": progress.get("has_codebook"), **progress}
    stage = known.pop("trained.sub_clusters.stage", None)
    window = known.pop("trained.sub_clusters.lesson", None)
    if stage is not None and window is not None and 1 <= (number := int(np.array(stage))) <= 3:
        progress["merged"] = (("agreed", "distil", "doubted")[number - 1], window.tolist())
    return known, progress
