"""The installed command: `mlx-gmvae train ...` is `python train.py ...`, and so on."""

import os
import sys

from . import __version__
from .errors import did_you_mean

USAGE = """usage: mlx-gmvae COMMAND ...   (mlx-gmvae COMMAND --help says more)

  train        train a model on images
  reconstruct  reconstruct images and measure how well
  generate     draw new images
  cluster      assign images to clusters and picture them"""


COMMANDS = ("train", "reconstruct", "generate", "cluster")


def completed_command() -> list[str]:
    """The command whose flags a shell wants completed; argcomplete answers if it is none yet."""
    import argparse

    import argcomplete

    _, *words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")
    if len(words) > 1 and words[0] in COMMANDS:
        os.environ["_ARGCOMPLETE"] = "2"  # the word with which the flags' own line begins
        return words[:1]
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("command", choices=COMMANDS)
    argcomplete.autocomplete(parser)
    return []


def main() -> int:
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may come next
        sys.argv[1:] = completed_command()
    command, *arguments = sys.argv[1:] or ["--help"]
    # Each only when it is wanted, as they take their time.
    if command == "train":
        from .cli.train import main as run
    elif command == "reconstruct":
        from .cli.reconstruct import main as run
    elif command == "generate":
        from .cli.generate import main as run
    elif command == "cluster":
        from .cli.cluster import main as run
    elif command in ("-h", "--help", "--version"):
        try:
            print(f"mlx_gmvae {__version__}" if command == "--version" else USAGE, flush=True)
        except BrokenPipeError:  # as by `| head`: nothing is left to flush at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    else:
        meant = did_you_mean(command, COMMANDS)
        help_line = " (see mlx-gmvae --help)" if meant else f"\n{USAGE}"
        print(f"mlx-gmvae: there is no command {command!r}{meant}{help_line}", file=sys.stderr)
        return 2
    sys.argv[0] = f"mlx-gmvae {command}"  # as usage and error lines call it
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
