"""Upload of runs by train.py: --push_to_hub and --private."""

import argparse
from pathlib import Path
from typing import Any

from ..device import distributed
from ..errors import InputError
from ..hub.upload import require_known_token
from ..runs.publish import is_finished, publish
from ..runs.run_folder import RunFolder
from ..system import interrupts
from .start import refuse_changes


def add_push_flags(group: Any) -> None:
    """Add --push_to_hub and --private."""
    group.add_argument(
        "--push_to_hub", metavar="ORG/NAME",
        help="upload the finished run to this repository on the Hugging Face Hub",
    )  # fmt: skip
    group.add_argument(
        "--private", action="store_true", help="create the repository of --push_to_hub as private"
    )


def require_push(args: argparse.Namespace) -> None:
    """Raise InputError before a training that cannot be uploaded at its end."""
    if args.private and not args.push_to_hub:
        raise InputError("--private has no effect without --push_to_hub")
    if args.push_to_hub and distributed.is_first():
        require_known_token(args.push_to_hub)


def push(args: argparse.Namespace, folder: Path, command: str) -> None:
    """Upload a finished run, if --push_to_hub is given; `command` repeats the upload."""
    if not args.push_to_hub or not distributed.is_first():
        return
    again = f"the run is saved in {folder}; upload it with: {command}"
    interrupts.say(again)
    print(f"uploading {folder} to {args.push_to_hub}", flush=True)
    print(f"uploaded to {publish(folder, args.push_to_hub, args.private, again)}")


def is_only_pushed(args: argparse.Namespace) -> bool:
    """Return whether --push_to_hub is given for a finished run in --resume."""
    if not (args.push_to_hub and args.resume and is_finished(Path(args.resume))):
        return False
    refuse_changes(args)
    if "epochs" not in args:
        return True
    _, saved = RunFolder.open(args.resume)
    return bool(args.epochs == saved.training.epochs)
