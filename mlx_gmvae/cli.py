"""What the four scripts share: the parser, common flags, checks, exit codes."""

import argparse
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from .checkpoint import ModelFile, load_model
from .config import ModelConfig
from .data.datasets import NAMES, Dataset, Splits, load_dataset
from .data.published import default_data_dir
from .errors import InputError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Flags in underscores, as they are documented; the dashed spelling works too."""

    def __init__(self, description: str):
        super().__init__(
            description=description,
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
        )

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        args = sys.argv[1:] if args is None else args
        return super().parse_known_args([_underscored(arg) for arg in args], namespace)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _underscored(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def script(main: Callable[[list[str] | None], int | None]) -> Callable[..., int]:
    """Wrap a script's `main(argv)`: bad input ends in one line and status 2, Ctrl-C in 130."""

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None) -> int:
        try:
            return main(argv) or 0
        except InputError as error:
            message = str(error)
        except BrokenPipeError:  # the reader of our output went away: nobody is left to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            if error.filename is None:
                message = str(error)
            else:
                message = f"cannot use {error.filename}: {error.strerror}"
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        print(f"{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
        return EXIT_BAD_INPUT

    return wrapped


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C or SIGTERM makes the yielded function answer True; a second
    one interrupts at once."""
    stop = False

    def request(signum: int, frame: Any) -> None:
        nonlocal stop
        if stop:
            raise KeyboardInterrupt
        stop = True

    previous = {name: signal.signal(name, request) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stop
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)


def add_device_flags(parser: Parser) -> None:
    group = parser.add_argument_group("device")
    group.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    group.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")


def add_data_flags(parser: Parser, default_dataset: str) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        metavar="NAME|PATH",
        help=f"{', '.join(NAMES)}, or a path: an .npy or .npz array file (images, labels) or a "
        f"folder of IDX files (default: {default_dataset})",
    )
    group.add_argument(
        "--data_dir",
        metavar="DIR",
        help=f"where published sets are looked for and kept (default: {_home(default_data_dir())})",
    )
    group.add_argument(
        "--image_size", type=int, nargs=2, metavar=("H", "W"), help="resize images to H x W"
    )
    group.add_argument("--classes", nargs="+", metavar="NAME", help="keep only these classes")


def _home(path: Path) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(home) else str(path)


def add_model_flags(parser: Parser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--model", required=True, metavar="FILE", help="an .npz from train.py")
    for name in ("latent_dims", "max_filters", "K"):
        group.add_argument(f"--{name}", type=int, metavar="N", help="checked against the file")
    group.add_argument(
        "--config", metavar="FILE", help="JSON model configuration, for weights that carry none"
    )


def load_checked_model(args: argparse.Namespace) -> ModelFile:
    """The model in --model, if the sizes given on the command line agree with it."""
    loaded = load_model(args.model, _read_config(args.config) if args.config else None)
    for name in ("latent_dims", "max_filters", "K"):
        given, actual = getattr(args, name), getattr(loaded.model.config, name)
        if given is not None:
            check_flag_applies(name, loaded.model.config)
            if given != actual:
                raise InputError(f"--{name} is {given}, but {args.model} was made with {actual}")
    return loaded


def _read_config(path: str) -> ModelConfig:
    try:
        values = json.loads(Path(path).read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    return ModelConfig.from_dict(values)


def check_flag_applies(name: str, config: ModelConfig) -> None:
    """Raise InputError if this flag has no effect for such a model."""
    needs = {
        "K": ("model", "gmvae"),
        "w_dims": ("model", "gmvae"),
        "posterior": ("model", "gmvae"),
        "max_filters": ("arch", "conv"),
        "hidden_dims": ("arch", "mlp"),
        "sigma": ("likelihood", "gaussian"),
    }
    if name in needs:
        field, value = needs[name]
        actual = getattr(config, field)
        if actual != value:
            raise InputError(f"--{name} has no effect with --{field} {actual}; it is for {value}")


def load_model_data(args: argparse.Namespace, loaded: ModelFile) -> Splits:
    """The images named on the command line, by default those that the model was trained on.

    Raises InputError if their shape is not the model's.
    """
    source, image_size, classes = args.dataset, args.image_size, args.classes
    if source is None:
        source = loaded.data.get("dataset")
        if not isinstance(source, str):
            raise InputError(f"{args.model} does not say what it was trained on; give --dataset")
        image_size = image_size or loaded.data.get("image_size")
        classes = classes or loaded.data.get("classes")
    splits = load_dataset(source, args.data_dir, image_size, classes)
    check_shape(splits.train, args.model, loaded.model.config)
    return splits


def check_shape(dataset: Dataset, model_path: str, config: ModelConfig) -> None:
    """Raise InputError unless the images have the model's height, width and channels."""
    height, width, channels = dataset.image_shape
    if channels != config.channels:
        raise InputError(
            f"{model_path} is for images of {config.channels} channels, {dataset.name} has "
            f"{channels}"
        )
    if (height, width) != tuple(config.image_size):
        wanted = "{} x {}".format(*config.image_size)
        raise InputError(
            f"{model_path} is for images of {wanted}, {dataset.name} has {height} x {width}; "
            f"add --image_size {wanted.replace(' x', '')} to resize them"
        )


def print_options(options: dict[str, Any]) -> None:
    """An aligned block of the options in use."""
    width = max(map(len, options))
    for name, value in options.items():
        print(f"  {name:<{width}}  {value}")


def print_scores(title: str, scores: dict[str, float]) -> None:
    """One line of named figures."""
    print(f"{title}: " + "  ".join(f"{name} {value:.4g}" for name, value in scores.items()))


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Readable JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")
