"""Processors by the quota of control groups, in made-up trees of both versions."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlx_gmvae.data import decode
from mlx_gmvae.device import backend, blas
from mlx_gmvae.system import processors
from mlx_gmvae.system.processors import quota

import pytest

V2 = {"proc/self/cgroup": "0::/\n"}
V1 = {"proc/self/cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/docker/abc\n3:memory:/\n"}
TREES = {
    "no control groups": ({}, None),
    "v2": (V2 | {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    "v2, no limit": (V2 | {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "v2, rounded down": (V2 | {"sys/fs/cgroup/cpu.max": "270000 100000\n"}, 2),
    "v2, less than one": (V2 | {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
    "v2, the smallest of nested groups": (
        {
            "proc/self/cgroup": "0::/pods/one/main\n",
            "sys/fs/cgroup/pods/cpu.max": "800000 100000\n",
            "sys/fs/cgroup/pods/one/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/pods/one/main/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pods/two/cpu.max": "100000 100000\n",
        },
        3,
    ),
    "v2 beside v1": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/unified/cpu.max": "400000 100000\n"},
        4,
    ),
    "v1": (
        V1
        | {
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "50000\n",
        },
        3,
    ),
    "v1, seen from inside": (
        V1
        | {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        2,
    ),
    "v1, no limit": (
        V1
        | {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "v1, half of it missing": (V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n"}, None),
    "not to be understood": (V2 | {"sys/fs/cgroup/cpu.max": "lots\n"}, None),
    "a period of nothing": (V2 | {"sys/fs/cgroup/cpu.max": "100000 0\n"}, None),
}


@pytest.mark.parametrize("name", TREES)
def test_quota(tmp_path: Path, name: str) -> None:
    files, expected = TREES[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert quota(tmp_path) == expected


def test_streams_and_threads_follow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(backend.STREAMS_VARIABLE, raising=False)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(processors, "quota", lambda: 2)
    monkeypatch.setattr(backend, "_loaded", blas.Blas())
    assert processors.available_processors() == 2 and backend.cores() == 2

    sizes = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, num: int):
            sizes.append(num)
            super().__init__(num)

    monkeypatch.setattr(decode, "ThreadPoolExecutor", Pool)
    assert list(decode.in_threads(len, ["ab", "c"], 2, "")) == [2, 1]
    assert sizes == [2]
