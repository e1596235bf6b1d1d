"""Runs that are killed or lack disk space at random moments (`soak.py kills disk`).

Afterwards they are resumed. Every part returns rows of {"fault", "tried", "survived", "failures",
"seconds"}.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlx_gmvae.runs.checkpoint import load_arrays, load_model  # noqa: E402
from mlx_gmvae.system.files import PREFIX  # noqa: E402

import numpy as np  # noqa: E402
from soak_runs import Row, row  # noqa: E402

SECONDS = 300  # limit of a tiny run
# Saves far more often than usual, so that kills interrupt saves.
CHILD = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from mlx_gmvae.cli import run_callbacks, train
run_callbacks.SECONDS_BETWEEN_SAVES = 0.05
sys.exit(train.main(sys.argv[1:]))
"""
TINY = "--cpu --arch mlp --hidden_dims 16 --latent_dims 2"
RUNS = {
    "training": f"{TINY} --dataset digits --K 3 --epochs 3 --save_every 1",
    "several seeds": f"{TINY} --dataset digits --K 3 --epochs 2 --save_every 1 --seeds 2",
    "mutual learning": f"{TINY} --dataset digits --K 3 --epochs 4 --model vae-gmm "
    "--mutual_iterations 1 --save_every 1",
    "early stopping": f"{TINY} --dataset digits --model vae --epochs 6 --early_stopping 5 "
    "--save_every 1",
    "photographs": f"{TINY} --dataset PHOTOS --K 3 --epochs 3 --image_size 12 12 --save_every 1",
    "two processes": f"{TINY} --dataset digits --K 3 --epochs 3 --save_every 1 --batchsize 256",
}
TWO = "two processes"
UNWRITABLE = (
    "train.py {tiny} --dataset digits --outdir {disk}/new",
    "train.py {tiny} --dataset digits --outdir {disk}/new --seeds 2",
    "train.py {tiny} --dataset digits --outdir {run} --overwrite",
    "train.py --cpu --resume {run} --epochs 9 --data_dir {disk}/there/kept",
    "train.py {tiny} --dataset {disk}/there/photos --image_size 9 9 --data_dir {disk}/there/kept "
    "--outdir {disk}/new",
    "generate.py --cpu --model {run}/model.npz --outfile {disk}/samples.png",
    "reconstruct.py --cpu --model {run}/model.npz --data_dir {disk}/there/kept --outdir {disk}/new "
    "--rec_testdata",
    "cluster.py --cpu --model {run}/model.npz --data_dir {disk}/there/kept --outdir {disk}/new",
)


class Trial:
    """A run that is killed, resumed, and compared with the uninterrupted run `whole`."""

    def __init__(self, name: str, place: Path):
        self.num = 2 if name == TWO else 1
        self.place = place
        self.options = RUNS[name].replace("PHOTOS", str(place / "photos")).split()
        self.options += ["--data_dir", str(place / "kept")]
        if "PHOTOS" in RUNS[name]:
            write_photos(place / "photos")
        place.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        self.whole = place / "whole"
        self.finish(self.whole)
        self.life = time.monotonic() - started
        shutil.rmtree(place / "kept", ignore_errors=True)

    def command(self, folder: Path) -> list[str]:
        """Return the command to resume the run, or to start it if there is nothing to resume."""
        if (folder / "state.npz").exists() or (folder / "seeds.json").exists():
            return ["--cpu", "--resume", str(folder), "--data_dir", str(self.place / "kept")]
        return [*self.options, "--outdir", str(folder)]

    @contextmanager
    def running(
        self, folder: Path, largest_file: int | None = None
    ) -> Iterator[list[subprocess.Popen[str]]]:
        def limit() -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        if self.num > 1:
            hosts = self.place / "hosts.json"
            hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(self.num)]))
            environment |= {"MLX_HOSTFILE": str(hosts)}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", CHILD, *self.command(folder)], cwd=ROOT, text=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=limit,
                env=environment | ({"MLX_RANK": str(rank)} if self.num > 1 else {}),
            )
            for rank in range(self.num)
        ]  # fmt: skip
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.communicate()

    def finish(self, folder: Path) -> None:
        with self.running(folder) as processes:
            for process in processes:
                _, errors = process.communicate(timeout=SECONDS)
                # The kill may have come after the run was complete.
                if process.returncode and "is finished after" not in errors:
                    raise AssertionError(f"status {process.returncode}: {errors.strip()[-300:]}")

    def run_short_of(self, folder: Path, room: int, is_small: bool) -> bool:
        """Run with `room` bytes on the disk or for a file; return whether the run finished.

        If it did not, it must end with one line, after notes about how it reads the images.
        """
        ballast = self.place / "ballast"
        if is_small:
            spare = shutil.disk_usage(self.place).free - room
            ballast.write_bytes(bytes(max(0, spare)))
        with self.running(folder, None if is_small else room) as (process,):
            _, errors = process.communicate(timeout=SECONDS)
        ballast.unlink(missing_ok=True)
        one_line = (
            process.returncode == 2 and errors.count("\n-c: ") + errors.startswith("-c: ") == 1
        )
        assert process.returncode == 0 or one_line, f"status {process.returncode}: {errors[-300:]}"
        self.require_readable(folder)
        return process.returncode == 0

    def require_readable(self, folder: Path) -> None:
        """Raise InputError if a file with its final name is damaged."""
        for path in folder.rglob("*.npz"):
            if not path.name.startswith(PREFIX):
                load_arrays(path)
        for name in ("model.npz", "best.npz"):
            if (folder / name).exists():
                load_model(folder / name)

    def kill(self, folder: Path, seconds: float) -> bool:
        """Kill the run after `seconds`; return False if it finished before."""
        with self.running(folder) as processes:
            time.sleep(seconds)
            was_running = processes[0].poll() is None
            for process in processes:
                process.send_signal(signal.SIGKILL)
        self.require_readable(folder)
        return was_running

    def compare(self, folder: Path) -> None:
        """Raise AssertionError unless `folder` is equal to that of an uninterrupted run."""
        names = [path.relative_to(self.whole) for path in self.whole.rglob("*")]
        missing = [name for name in names if not (folder / name).exists()]
        hidden = [path for place in (folder, self.place / "kept") for path in place.rglob(".*")]
        assert not missing and not hidden, f"missing {missing}, left {hidden}"
        for name in names:
            if name.suffix == ".npz" and name.name != "state.npz":
                ours, theirs = load_arrays(folder / name), load_arrays(self.whole / name)
                assert ours.keys() == theirs.keys(), f"{name} has other arrays"
                for key, value in ours.items():
                    assert np.array_equal(value, theirs[key]), f"{name}: {key} differs"
        ours, theirs = (
            json.loads((place / "metrics.json").read_text()) for place in (folder, self.whole)
        )
        for name in ("generative", "clustering", "pairs"):
            assert ours.get(name) == theirs.get(name), f"{name} of metrics.json differ"


def write_photos(folder: Path) -> None:
    """Write two hundred small pictures of two kinds."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(200):
        pixels = rng.integers(0, 128, (40, 50, 3), dtype=np.uint8)
        pixels[:, : 25 * (number % 2)] += 100
        Image.fromarray(pixels).save(folder / f"{number}.jpg")


def free_ports(num: int) -> list[int]:
    sockets = [socket.socket() for _ in range(num)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def kills(args: argparse.Namespace) -> list[Row]:
    """Kill tiny runs at random moments, resume them, and kill them again."""
    rows = []
    with tempfile.TemporaryDirectory(dir=args.workdir) as work:
        for number, name in enumerate(RUNS):
            rng = random.Random(f"{args.seed} {name}")
            count = len(range(number, args.count, len(RUNS)))
            if not count or args.only not in (None, name):
                continue
            started, failures, tried, survived = time.monotonic(), [], 0, 0
            place = Path(work) / name.replace(" ", "_")
            trial = Trial(name, place)
            while tried < count:
                folder, moments = place / f"run {tried}", []
                try:
                    while True:
                        moments.append(round(rng.uniform(0, trial.life), 2))
                        was_running = trial.kill(folder, moments[-1])
                        if not was_running or tried + len(moments) >= count or rng.random() < 0.5:
                            break
                    if was_running or not (folder / "metrics.json").exists():
                        trial.finish(folder)
                    trial.compare(folder)
                    survived += len(moments)
                except Exception as error:
                    failures.append(f"{name}, killed after {moments} s: {error}")
                tried += len(moments)
                shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(place / "kept", ignore_errors=True)
            rows.append(row(f"killed: {name}", tried, survived, failures, started))
    return rows


def disk(args: argparse.Namespace) -> list[Row]:
    """Run on a disk that becomes full at any moment, make room, and resume.

    The disk is a small mounted one or, without the right to mount, a limit on the file size.
    """
    rng = random.Random(args.seed)
    rows = []
    with tempfile.TemporaryDirectory(dir=args.workdir) as work, small_disk(Path(work)) as is_small:
        kind = "full disk" if is_small else "largest file"
        for name in ("training", "several seeds", "photographs"):
            trial = Trial(name, Path(work) / name.replace(" ", "_"))
            started, failures, num = time.monotonic(), [], max(2, args.count // 10)
            for number in range(num):
                folder = trial.place / f"run {number}"
                files = [path.stat().st_size for path in trial.whole.rglob("*") if path.is_file()]
                room = rng.randrange(sum(files) if is_small else max(files))
                try:
                    if not trial.run_short_of(folder, room, is_small):
                        trial.finish(folder)
                    trial.compare(folder)
                except Exception as error:
                    failures.append(f"{name}, {room} bytes: {error}")
                shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(trial.place / "kept", ignore_errors=True)
            rows.append(row(f"{kind}: {name}", num, num - len(failures), failures, started))
            shutil.rmtree(trial.place)
        rows += [read_only(Path(work))] if is_small else []
    return rows


def read_only(disk: Path) -> Row:
    """Run everything that writes on a small read-only disk."""
    trial = Trial("photographs", disk / "there")
    started, failures = time.monotonic(), []
    remount = ["mount", "-o", "remount,{}", str(disk)]
    subprocess.run([word.format("ro") for word in remount], check=True)
    try:
        for command in UNWRITABLE:
            words = command.format(run=trial.whole, disk=disk, tiny=TINY).split()
            done = subprocess.run(
                [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
            )
            name = words[0]
            last = f"{name}: cannot "
            one_line = done.stderr.count(last) == 1 and done.stderr.splitlines()[-1].startswith(
                last
            )
            if done.returncode != 2 or not one_line:
                failures.append(f"{command}: status {done.returncode}, {done.stderr[-300:]}")
    finally:
        subprocess.run([word.format("rw") for word in remount], check=True)
    num = len(UNWRITABLE)
    return row("a read-only disk", num, num - len(failures), failures, started)


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Mount a disk of a few megabytes at `place`; yield whether that was possible."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError:
        yield False
        return
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", str(place)], check=True)


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {"kills": kills, "disk": disk}
