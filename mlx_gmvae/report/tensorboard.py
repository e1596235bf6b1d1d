"""TensorBoard event files, through the optional package `tensorboard`."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .figures import as_pillow, as_png


def require_tensorboard() -> None:
    """Raise InputError if tensorboard is not installed."""
    if find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs TensorBoard; run: pip install tensorboard")


class SummaryWriter:
    """Writer of scalars and pictures of a run for TensorBoard."""

    def __init__(self, folder: Path):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._writer = EventFileWriter(str(folder))

    def scalars(self, values: dict[str, float], epoch: int) -> None:
        """Write one value per name at `epoch`."""
        points = [self._summary.Value(tag=name, simple_value=x) for name, x in values.items()]
        self._add(points, epoch)

    def pictures(self, pictures: dict[str, np.ndarray], epoch: int) -> None:
        """Write named (H, W, C) pictures at `epoch`."""
        self._add([self._picture(*item) for item in pictures.items()], epoch)

    def _picture(self, name: str, picture: np.ndarray) -> Any:
        image = as_pillow(picture)
        content = self._summary.Image(
            height=image.height,
            width=image.width,
            colorspace=len(image.getbands()),
            encoded_image_string=as_png(picture),
        )
        return self._summary.Value(tag=name, image=content)

    def close(self) -> None:
        """Write buffered events and close the file."""
        self._writer.close()

    def _add(self, values: list[Any], epoch: int) -> None:
        self._writer.add_event(
            self._event(wall_time=time.time(), step=epoch, summary=self._summary(value=values))
        )
