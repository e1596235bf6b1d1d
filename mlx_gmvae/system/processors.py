"""Number of processors available to this process, by CPU affinity and container quota."""

import os
from collections.abc import Iterator
from pathlib import Path


def available_processors() -> int:
    """Return the number of threads that can run in parallel; at least 1."""
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return os.cpu_count() or 1
    return max(1, min(len(os.sched_getaffinity(0)), quota() or os.cpu_count() or 1))


def quota(root: Path = Path("/")) -> int | None:
    """Return the processors that the control groups of this process allow; None without a limit.

    It is the smallest limit of the group and all groups above it, rounded down, at least 1. Both
    versions of control groups are read, from the file system mounted at `root`. A container may
    see its own group as the topmost one, or not see it below its mount at all.
    """
    limits = [limit for folder in _groups(root) if (limit := _limit(folder)) is not None]
    return max(1, int(min(limits))) if limits else None


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that limit the processor time of this process."""
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
    """Return the processors that one group allows, its time per period; None without a limit."""
    try:
        if (folder / "cpu.max").exists():
            time, period = (folder / "cpu.max").read_text().split()
        else:
            time, period = (
                (folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        limit = int(time) / int(period)  # "max" raises ValueError
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return limit if limit > 0 else None  # -1 means no limit
