"""What a GPU makes of it: the default command, training speed beside PyTorch, and the tests.

    python benchmarks/gpu.py --data_dir DIR

About fifteen minutes on a machine that does nothing else, with MNIST in DIR; where a machine is
lent for less, ask for some of the parts. Rows of PyTorch are left out where torch sees no GPU.
"command" is the default command alone, first with nothing kept from before, then again; "rows" is
what needs no compiling, row by row; in "compiled" our fused steps and torch.compile compile side by
side, for as long as --patience says, while "seeds" runs the default command with other seeds and
batch sizes and "tests" the tests, and are then timed, row by row. Speeds are images a second of
training steps with random images on the GPU, waited for at the end, the faster of
two runs of 1.5 seconds. Kept, after every part, in benchmarks/results/gpu.json.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import record
import throughput

ROOT = Path(__file__).resolve().parent.parent
PARTS = ["command", "rows", "compiled", "seeds", "tests"]
COMMAND = ["train.py", "--latent_dims", "8", "--K", "10", "--overwrite"]
QUICK_ROWS = ["ours", "PyTorch", "PyTorch, channels last"]
COMPILED_ROWS = ["ours, fused", "PyTorch, torch.compile", "PyTorch, CUDA graphs"]
# CUDA graphs, of which we make none; MLX by itself makes them of 100 kernels here.
SETTINGS = {
    f"{number} kernels a graph": {"MLX_USE_CUDA_GRAPHS": "1", "MLX_MAX_OPS_PER_BUFFER": number}
    for number in ("100", "250", "1000")
}
ACCURACY = [  # options of the default command, to be run side by side
    ["--seed", "1"],
    ["--seed", "2"],
    ["--batchsize", "512", "--lr", "0.0014"],
    ["--batchsize", "1024", "--lr", "0.002"],
]
SETTINGS_FOR = ("VAE conv, 64x64", "GMVAE conv")  # workloads that they are tried on
WARM_UP, SECONDS, RUNS = 8, 1.5, 2
READY = "GPU_BENCHMARK_READY"  # names the file that a process makes when it has compiled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", help="folder with mnist/ (default: no default command)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--patience", type=float, default=400, help="seconds that rows may compile")
    parser.add_argument("--workers", default="8", help="of the tests")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="workloads that contain TEXT")
    parser.add_argument("--rows", nargs="+", choices=QUICK_ROWS + COMPILED_ROWS, metavar="ROW")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/gpu.json")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # workload, row
    args = parser.parse_args()
    if args.one:
        measure(*args.one)
        return
    workloads = [w for w in throughput.WORKLOADS if not args.only or any(t in w for t in args.only)]
    torch_sees_gpu = subprocess.run(
        [sys.executable, "-c", "import torch; assert torch.cuda.is_available()"],
        capture_output=True,
    )
    rows = args.rows or QUICK_ROWS + COMPILED_ROWS
    if torch_sees_gpu.returncode:
        print("torch sees no GPU: no rows of PyTorch")
        rows = [row for row in rows if "PyTorch" not in row]
    results: dict = {"command": "python benchmarks/gpu.py --data_dir DIR", "speed": {}}

    def keep(**more: object) -> None:
        results.update(more)
        record.write(args.results, results)

    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"XDG_CACHE_HOME": folder, "PYTHONUNBUFFERED": "1"}
        place = Path(folder)
        if args.data_dir and "command" in args.parts:
            for name in ("first", "again"):
                training = Training(["--seed", "0"], args.data_dir, place, environment)
                keep(**{name: training.finish()})
                print({k: v for k, v in results[name].items() if k != "output"}, flush=True)
        for workload in workloads if "rows" in args.parts else []:
            speeds = results["speed"].setdefault(workload, {})
            for row in rows:
                if row in QUICK_ROWS:
                    speeds[row] = Row(workload, row, environment).finish(600)
                    print(workload, row, speeds[row], flush=True)
                    keep()
            settings = SETTINGS if not args.rows and workload.startswith(SETTINGS_FOR) else {}
            for name, variables in settings.items():
                speeds[name] = Row(workload, "ours", environment | variables).finish(60)
                print(workload, name, speeds[name], flush=True)
                keep()
        asked = [(w, row) for w in workloads for row in rows if row in COMPILED_ROWS]
        asked = asked if "compiled" in args.parts else []
        waiting = [
            Row(workload, row, environment | apart(place, number), place / f"ready{number}")
            for number, (workload, row) in enumerate(asked)
        ]
        end = time.monotonic() + args.patience
        trainings = [
            Training(options, args.data_dir, place, environment)
            for options in ACCURACY
            if args.data_dir and "seeds" in args.parts
        ]
        if "tests" in args.parts:
            keep(tests=run_tests(args, environment))
            print({k: results["tests"][k] for k in ("seconds", "last_line", "so_far")}, flush=True)
        keep(accuracy=[training.finish() for training in trainings])
        for each in results["accuracy"]:
            print({k: v for k, v in each.items() if k != "output"}, flush=True)
        while time.monotonic() < end and not all(row.is_ready() for row in waiting):
            time.sleep(1)
        for compiled in waiting:
            if not compiled.is_ready():
                compiled.process.kill()
        for compiled in waiting:
            speeds = results["speed"].setdefault(compiled.workload, {})
            speeds[compiled.row] = compiled.finish(60)
            print(compiled.workload, compiled.row, compiled.answer, flush=True)
            keep()


def apart(place: Path, number: int) -> dict[str, str]:
    """Compiled kernels in a folder of their own: processes that share one could gain by it."""
    return {
        "MLX_PTX_CACHE_DIR": str(place / f"kernels{number}"),
        "TORCHINDUCTOR_CACHE_DIR": str(place / f"inductor{number}"),
        "TORCHINDUCTOR_COMPILE_THREADS": "2",
    }


class Row:
    """A process that compiles a row's step at once, and times it when it is asked to."""

    def __init__(
        self, workload: str, row: str, environment: dict[str, str], ready: Path | None = None
    ):
        self.workload, self.row, self.ready = workload, row, ready
        self.answer: dict | None = None
        fuse = {"MLX_GMVAE_FUSE": "1"} if row == "ours, fused" else {}
        fuse |= {READY: str(ready)} if ready else {}
        # A pipe that nobody reads would fill up.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--one", workload, row],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env=environment | fuse,
        )  # fmt: skip

    def is_ready(self) -> bool:
        """Whether it has compiled, or failed to."""
        return self.process.poll() is not None or bool(self.ready and self.ready.exists())

    def finish(self, patience: float) -> dict | None:
        """Images a second and seconds to the first step's end; None if that takes too long."""
        try:
            out, _ = self.process.communicate("go\n", timeout=patience + (RUNS + 1) * SECONDS)
            self.answer = json.loads(out.splitlines()[-1])
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        except IndexError:  # it was ended before, or failed
            if self.process.returncode > 0:
                self.errors.seek(0)
                self.answer = {"error": (self.errors.read().strip().splitlines() or ["?"])[-1]}
        return self.answer


class Training:
    """The default command with some more options, as a process."""

    def __init__(self, options: list[str], data_dir: str, place: Path, environment: dict[str, str]):
        self.options, self.outdir = options, place / "-".join(options).replace("--", "")
        where = ["--data_dir", data_dir, "--outdir", str(self.outdir)]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *COMMAND, *options, *where], cwd=ROOT, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def finish(self) -> dict:
        """Its seconds to the first epoch and to the end, its accuracy and its ELBO."""
        first_epoch, lines, times = None, [], []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.append(line)
            shown = line.strip().replace(str(self.outdir), "RUN")[:80]
            times.append([round(time.monotonic() - self.started, 1), shown])
            if first_epoch is None and re.match(r"Epoch +1 ", line):
                first_epoch = round(time.monotonic() - self.started, 1)
        if self.process.wait():
            return {"options": self.options, "error": "".join(lines[-3:])}
        metrics = json.loads((self.outdir / "metrics.json").read_text())
        history = (self.outdir / "history.csv").read_text().splitlines()
        speeds = [float(line.split(",")[history[0].split(",").index("throughput")])
                  for line in history[1:]]  # fmt: skip
        return {
            "options": self.options,
            "seconds_to_first_epoch": first_epoch,
            "seconds": round(time.monotonic() - self.started, 1),
            "training_seconds": round(metrics["training_seconds"], 1),
            "images_per_second": round(statistics.median(speeds)),
            "accuracy": metrics["clustering"]["accuracy"],
            "elbo": metrics["generative"]["elbo"],
            "output": times,
        }


def run_tests(args: argparse.Namespace, environment: dict[str, str]) -> dict:
    """The tests on the GPU: how many passed, and the names of those that did not."""
    data = {"MLX_GMVAE_TEST_DATA": args.data_dir} if args.data_dir else {}
    command = [sys.executable, "-m", "pytest", "-n", args.workers, "-q", "--tb=line"]
    command += ["-p", "no:cacheprovider", "-p", "no:benchmark", "tests"]
    started = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, env=environment | data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as tests:
        try:
            out, _ = tests.communicate(timeout=args.patience)
        except subprocess.TimeoutExpired:
            tests.send_signal(signal.SIGINT)  # pytest then says what failed so far
            try:
                out, _ = tests.communicate(timeout=20)
            except subprocess.TimeoutExpired as error:
                tests.kill()
                out = error.stdout or b""
    lines = out.decode(errors="replace").replace(f"{ROOT}/", "").splitlines()
    counts = {"passed": ".", "failed": "F", "errors": "E", "skipped": "s"}
    progress = "".join(line.split(" ")[0] for line in lines if re.match(r"^[.FEsx]+( |$)", line))
    return {
        "seconds": round(time.monotonic() - started),
        "last_line": lines[-1] if lines else "",
        "so_far": {name: progress.count(mark) for name, mark in counts.items()},
        "not_passed": [line for line in lines if line.startswith(("FAILED", "ERROR"))],
        "why": [line for line in lines if re.match(r"^(\S+:\d+:|E ) .+", line)],
    }


def measure(workload: str, row: str) -> None:
    """In a process of its own: compile, wait to be asked, print images a second."""
    started = time.monotonic()
    fields, batchsize = throughput.WORKLOADS[workload]
    make = torch_step if "PyTorch" in row else our_step
    step, finish, peak = make(fields, batchsize, row)
    step(0)
    finish()
    first = time.monotonic() - started
    for number in range(WARM_UP):
        step(number)
    finish()
    if READY in os.environ:
        Path(os.environ[READY]).touch()
    sys.stdin.readline()
    speeds = []
    for _ in range(RUNS):
        steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            step(steps)
            steps += 1
        finish()
        speeds.append(steps * batchsize / (time.perf_counter() - began))
    answer = {"images_per_second": round(max(speeds)), "runs": [round(speed) for speed in speeds]}
    print(json.dumps(answer | {"seconds_to_first": round(first, 1), "peak_mb": peak() >> 20}))


def our_step(fields: dict, batchsize: int, row: str):
    from mlx_gmvae.device import backend
    from mlx_gmvae.device.async_evaluation import AsyncEvaluation
    from mlx_gmvae.training.schedule import step_weights

    import mlx.core as mx

    backend.select_device()
    trainer = throughput.mlx_trainer(fields, batchsize)
    trainer.trained.train()
    compiled, captured = trainer.compiled_step()
    weights, evaluations = step_weights(trainer.config, 0), AsyncEvaluation()

    def step(number: int) -> None:
        start = number * batchsize % (len(trainer.images) - batchsize + 1)
        rows = np.arange(start, start + batchsize)
        both = (rows, trainer.neighbours[rows, 0]) if trainer.objective.pairs else (rows,)
        batch = next(trainer.reader.batches(iter([both])))
        losses, _ = compiled(batch, weights, mx.array(0.0))
        evaluations.start(losses, captured)

    return step, evaluations.finish, mx.get_peak_memory


def torch_step(fields: dict, batchsize: int, row: str):
    import torch

    torch.set_default_device("cuda")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    step, _ = throughput.torch_step(fields, batchsize, row)
    return step, torch.cuda.synchronize, torch.cuda.max_memory_allocated


if __name__ == "__main__":
    main()
