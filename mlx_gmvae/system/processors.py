"""How many processors this process may use: by affinity, and by the quota of a container."""

import os
from collections.abc import Iterator
from pathlib import Path


def available_processors() -> int:
    """The number of threads that can run at the same time; at least 1."""
    if not hasattr(os, "sched_getaffinity"):  # as on macOS
        return os.cpu_count() or 1
    return max(1, min(len(os.sched_getaffinity(0)), quota() or os.cpu_count() or 1))


def quota(root: Path = Path("/")) -> int | None:
    """The whole processors that the control groups of this process allow; None without a limit.

    The smallest of the limits of its group and all groups above it, rounded down, at least 1. Both
    versions of control groups are read, as they are mounted in the file system at `root`. A
    container may see its own group as the topmost one, or not at all below its mount.
    """
    limits = [limit for folder in _groups(root) if (limit := _limit(folder)) is not None]
    return max(1, int(min(limits))) if limits else None


def _groups(root: Path) -> Iterator[Path]:
    """The folders of the groups that limit this process's time on the processors."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # version 2, on its own or beside version 1
            places = [mount, mount / "unified"]
        elif "cpu" in controllers.split(","):
            places = [mount / controllers, mount / "cpu"]
        else:
            continue
        group = Path(path.lstrip("/"))
        yield from (place / each for place in places for each in (group, *group.parents))


def _limit(folder: Path) -> float | None:
    """Processors that one group allows: its time per period; None without a limit."""
    try:
        if (folder / "cpu.max").exists():
            time, period = (folder / "cpu.max").read_text().split()
        else:
            time, period = (
                (folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        limit = int(time) / int(period)  # of "max" there is no int
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return limit if limit > 0 else None  # -1 is no limit either
