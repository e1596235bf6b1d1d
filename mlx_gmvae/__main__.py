"""The installed command: `mlx-gmvae train ...` is `python train.py ...`, and so on."""

import sys

from . import __version__

USAGE = """usage: mlx-gmvae COMMAND ...   (mlx-gmvae COMMAND --help says more)

  train        train a model on images
  reconstruct  reconstruct images and measure how well
  generate     draw new images
  cluster      assign images to clusters and picture them"""


def main() -> int:
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
        print(f"mlx_gmvae {__version__}" if command == "--version" else USAGE)
        return 0
    else:
        print(f"mlx-gmvae: there is no command {command!r}\n{USAGE}", file=sys.stderr)
        return 2
    sys.argv[0] = f"mlx-gmvae {command}"  # as usage and error lines call it
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
