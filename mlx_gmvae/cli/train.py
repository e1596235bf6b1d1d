"""Train a VAE or a Gaussian-mixture VAE on unlabelled images.

python train.py --latent_dims 8 --K 10
"""

import argparse
import shlex
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from ..device import backend, distributed
from ..errors import InputError
from ..models import MixtureModel
from ..system import interrupts
from ..training.callbacks import fit
from . import flags, profiling
from .announce import print_estimate, print_summary
from .evaluate import evaluate
from .push import add_push_flags, is_only_pushed, push, require_push
from .run_callbacks import callbacks_of
from .script import Parser, command_line, require_at_least, script
from .seeds import is_cut_short, new_seeds, resumed_seeds
from .start import Run, new_run, resumed_run

EXAMPLES = (
    "%(prog)s --latent_dims 8 --K 10                    MNIST, or the bundled digits if offline",
    "%(prog)s --dataset ~/Pictures/birds --K auto       a folder of photographs",
    "%(prog)s --dataset digits --model vae --arch mlp   a plain VAE with fully connected networks",
    "%(prog)s --resume results/gmvae_mnist_K10_dims_0008",
)
SECONDS_TO_STOP = 2.0  # time limit after Ctrl-C while kernels compile
RARE = (
    "data_dir", "w_dims", "classifier", "posterior", "sigma", "max_filters", "hidden_dims",
    "num_layers", "mc_samples", "recon_weight", "kl_weight", "kl_anneal", "lr_schedule",
    "clip_grad", "pretrain_epochs", "mutual_iterations", "pair_weight", "pair_balance",
    "sub_clusters", "neighbours", "descriptor", "heads", "sample_weight", "save_every", "private",
    "json", "log_every", "profile", "benchmark_devices",
)  # fmt: skip


@script
def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    backend.select_device(args.cpu)
    distributed.quieten()
    if args.profile or args.benchmark_devices:
        return measure_speed(args)
    require_push(args)
    if args.resume:
        interrupts.say(f"continue with: {resume_command(args, args.resume)}")
    with ExitStack() as held:
        if is_only_pushed(args):
            push(args, Path(args.resume), resume_command(args, args.resume))
        elif args.seeds or (args.resume and is_cut_short(args.resume)):
            train_seeds(args, held)
        else:
            train_one(args, held)
    return 0


def train_one(args: argparse.Namespace, held: ExitStack) -> None:
    """Train and evaluate a new or resumed run, whose folder stays locked until `held` is closed."""
    run = resumed_run(args, held) if args.resume else new_run(args, held)
    command = resume_command(args, run.folder.path)
    interrupts.say(f"continue with: {command}")
    print_summary(run)
    train(run, args.save_every, args.log_every)
    interrupts.say(f"the trained model is saved; measure it with: {command}")
    if distributed.is_first():
        evaluate(run)
        model, features = run.trainer.model, run.trainer.config.features
        if not (isinstance(model, MixtureModel) and model.sees_features):
            features = None
        print(f"next: {next_command(args, run.folder.model, features)}")
        push(args, run.folder.path, command)


def next_command(args: argparse.Namespace, model: Path, features: str | None = None) -> str:
    """Return the command that shows the clusters, or the latent space, of a trained model.

    `features` is a file that the model's q(y|x) takes its features from, or an encoder, which
    cluster.py finds by itself.
    """
    words = [*command_line("cluster"), "--model", str(model), "--explorer"]
    if args.data_dir is not None:
        words += ["--data_dir", args.data_dir]
    if features is not None and Path(features).is_file():
        words += ["--features", features]
    return shlex.join([*words, "--cpu"] if args.cpu else words)


def resume_command(args: argparse.Namespace, path: str | Path) -> str:
    """Return the command that resumes the run in `path`, with the flags that no file stores."""
    words = [*command_line("train"), "--resume", str(path)]
    moved = ["dataset"] if args.resume else []  # the new place of the images may not be saved yet
    for name in (*moved, "data_dir", "save_every"):
        if getattr(args, name) is not None:
            words += [f"--{name}", str(getattr(args, name))]
    words += ["--push_to_hub", args.push_to_hub] if args.push_to_hub else []
    words += [f"--{name}" for name in ("cpu", "tensorboard", "private") if getattr(args, name)]
    return shlex.join(words)


def train(run: Run, save_every: int | None, log_every: int | None = None) -> None:
    """Train to the last epoch or until Ctrl-C, and save the model and its state in both cases.

    Raises KeyboardInterrupt after Ctrl-C, when everything is saved.
    """
    trainer = run.trainer
    with ExitStack() as held:
        if backend.compiles_for_minutes():
            held.enter_context(interrupts.ends_if_blocked(SECONDS_TO_STOP))
        if not trainer.is_done:
            print_estimate(trainer)
        stopped = held.enter_context(interrupts.noticed())
        fit(trainer, callbacks_of(run, save_every, log_every), stopped)
        interrupted = stopped() or not trainer.is_done
    if interrupted:
        raise KeyboardInterrupt


def measure_speed(args: argparse.Namespace) -> int:
    """Measure and print what --profile and --benchmark_devices ask for, without training."""
    if distributed.size() > 1:
        raise InputError("--profile and --benchmark_devices run in one process; start only one")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        args.outdir = folder
        run = new_run(args, held)
        print_summary(run)
        if args.profile:
            seconds = profiling.phases(run.trainer, run.splits.test.examples)
            profiling.print_phases(seconds, run.trainer.steps_per_epoch)
        if args.benchmark_devices:
            profiling.print_devices(run.trainer)
    return 0


def train_seeds(args: argparse.Namespace, held: ExitStack) -> None:
    """Train --seeds runs, each in its own folder, and keep the one with the lowest pair loss."""
    if distributed.size() > 1:
        raise InputError("--seeds trains in one process; start only one")
    seeds = resumed_seeds(args, held) if args.resume else new_seeds(args, held)
    interrupts.say(f"continue with: {resume_command(args, seeds.folder.path)}")
    for run in seeds.unfinished(args):
        print_summary(run)
        train(run, args.save_every, args.log_every)
        evaluate(run)
    losses = seeds.pair_losses()
    best, *_ = losses
    seeds.folder.adopt(best)
    print("pair loss, lowest first: " + ", ".join(f"seed {s} {losses[s]:.4f}" for s in losses))
    print(f"kept seed {best} as {seeds.folder.model}")
    print(f"next: {next_command(args, seeds.folder.model)}")
    push(args, seeds.folder.path, resume_command(args, seeds.folder.path))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        "Train a VAE, or a VAE with a Gaussian-mixture prior, on unlabelled images. Writes a run "
        "folder with model.npz, metrics.json, history.csv, pictures, and summary.html with "
        "all results.",
        EXAMPLES,
        RARE,
    )
    flags.add_data_flags(
        parser,
        "mnist, or the bundled digits if it cannot be downloaded",
        "resize images to H x W pixels (default: their own size; if sizes differ, the median size, "
        "at most 64)",
        "crop",
    )
    flags.add_model_flags(parser).add_argument(
        "--init", metavar="FILE|NAME",
        help="start from the weights of this trained model, where their shapes fit; its sizes are "
        "the defaults of the flags above",
    )  # fmt: skip
    flags.add_training_flags(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--outdir", help="run folder (default: results/<model>_<data>_...)")
    group.add_argument(
        "--overwrite", action="store_true", help="replace an existing run in --outdir"
    )
    group.add_argument(
        "--save_every", type=int, metavar="EPOCHS",
        help="write pictures every EPOCHS epochs and at the end (default: ten times a run)",
    )  # fmt: skip
    group.add_argument(
        "--resume", metavar="RUN", help="continue the run, or the runs of --seeds, in folder RUN"
    )
    group.add_argument(
        "--seeds", type=int, metavar="N",
        help="train N runs, seeds from --seed on; keep the one with the lowest pair loss",
    )  # fmt: skip
    group.add_argument(
        "--tensorboard", action="store_true",
        help="also write TensorBoard event files (needs pip install tensorboard)",
    )  # fmt: skip
    group.add_argument(  # its name up to version 0.2
        "--summary", action="store_true", dest="tensorboard", help=argparse.SUPPRESS
    )
    add_push_flags(group)
    flags.add_json_flag(group, "each epoch and the result")
    group.add_argument(
        "--log_every", type=int, metavar="STEPS",
        help="also print a line every STEPS steps within an epoch",
    )  # fmt: skip
    flags.add_device_flags(parser)
    group = parser.add_argument_group("speed (measured without training a model)")
    group.add_argument(
        "--profile", action="store_true", help="print the time of each phase of an epoch"
    )
    group.add_argument(
        "--benchmark_devices",
        action="store_true",
        help="print the training speed on the CPU and on the GPU",
    )
    args = parser.parse_args(argv)
    args.command = shlex.join([*command_line("train"), *(sys.argv[1:] if argv is None else argv)])
    if args.profile or args.benchmark_devices:
        for name in ("seeds", "resume", "outdir", "overwrite", "save_every", "tensorboard",
                     "push_to_hub", "private", "json", "log_every"):  # fmt: skip
            if getattr(args, name):
                raise InputError(f"--{name} has no effect with --profile or --benchmark_devices")
    if args.seeds and args.init:
        raise InputError("--seeds starts each run from new weights; leave out --seeds or --init")
    if args.resume and args.init:
        raise InputError("--init has no effect with --resume, which continues the run")
    if args.resume and args.overwrite:
        raise InputError("--overwrite has no effect with --resume, which continues the run")
    require_at_least("save_every", args.save_every, 1)
    require_at_least("log_every", args.log_every, 1)
    require_at_least("seeds", args.seeds, 1)
    if args.seeds and args.resume:
        raise InputError("--seeds has no effect with --resume, which continues all seeds of a run")
    return args
