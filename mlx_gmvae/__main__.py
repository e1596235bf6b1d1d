"""The installed command `mlx-gmvae`: `mlx-gmvae train ...` runs `python train.py ...`."""

import os
import sys

from . import __version__
from .errors import did_you_mean

USAGE = """usage: mlx-gmvae COMMAND ...   (mlx-gmvae COMMAND --help lists the flags of a command)

  train        train a model on images
  reconstruct  reconstruct images and measure the error
  generate     generate new images
  cluster      assign images to clusters and show the clusters"""


COMMANDS = ("train", "reconstruct", "generate", "cluster")


def completed_command() -> list[str]:
    """Return the command whose flags a shell wants completed, or complete the command itself."""
    import argparse

    import argcomplete

    _, *words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")
    if len(words) > 1 and words[0] in COMMANDS:
        os.environ["_ARGCOMPLETE"] = "2"  # the index of the word where the flags begin
        return words[:1]
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("command", choices=COMMANDS)
    argcomplete.autocomplete(parser)
    return []


def main() -> int:
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions
        sys.argv[1:] = completed_command()
    command, *arguments = sys.argv[1:] or ["--help"]
    # Each script is imported only if it runs, because imports are slow.
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
        except BrokenPipeError:  # e.g. by `| head`; nothing may be flushed at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    else:
        meant = did_you_mean(command, COMMANDS)
        help_line = " (see mlx-gmvae --help)" if meant else f"\n{USAGE}"
        print(f"mlx-gmvae: there is no command {command!r}{meant}{help_line}", file=sys.stderr)
        return 2
    sys.argv[0] = f"mlx-gmvae {command}"  # the name in usage and error lines
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
