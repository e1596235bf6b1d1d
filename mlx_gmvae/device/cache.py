"""Where on this machine things are kept that can be made or fetched again."""

import os
from pathlib import Path

from ..errors import InputError


def cache_dir() -> Path:
    """mlx_gmvae in the user's cache folder. Raises InputError if the user has none."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlx_gmvae"
    except RuntimeError as error:
        raise InputError(f"there is no cache folder ({error}); set XDG_CACHE_HOME") from None
