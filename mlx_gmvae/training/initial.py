"""Fine-tuning on other images: start from the weights of a trained model, where they fit."""

from ..errors import InputError
from ..models.base import LatentVariableModel
from .trainer import Trainer

OUT = "classifier.out"
MOST_NAMED = 4


def start_from(trainer: Trainer, other: LatentVariableModel) -> str:
    """Copy each array of `other` that the Trainer's model has in the same shape.

    Returns a line that says how many arrays were copied and which were not. The first of the
    competing heads becomes the last layer of `other`. The other heads keep their random start, and
    replace the first one if they are better. Raises InputError if no array fits.
    """
    own, theirs = trainer.model.arrays(), other.arrays()
    fitting = {n: value for n, value in theirs.items() if n in own and own[n].shape == value.shape}
    if not fitting:
        raise InputError("no array of the --init model fits this model; leave out --init")
    trainer.model.load_weights(list(fitting.items()), strict=False)
    patches = {name for name in own if ".patches." in name}
    trainer.has_codebook = bool(patches) and patches <= set(fitting)
    heads = trainer.objective.heads
    if heads is not None and {f"{OUT}.weight", f"{OUT}.bias"} <= set(fitting):
        heads.weight[0] = fitting[f"{OUT}.weight"]
        heads.bias[0] = fitting[f"{OUT}.bias"]
    line = f"{len(fitting)} of {len(own)} arrays of the model copied"
    left = [_difference(name, own, theirs) for name in own if name not in fitting]
    if left:
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        line += f"; not copied: {', '.join(left[:MOST_NAMED])}{more}"
        height, width, _ = other.config.image_shape
        if trainer.model.config.image_size != other.config.image_size:
            line += f"; its images have --image_size {height} {width}"
    return line


def _difference(name: str, own: dict, theirs: dict) -> str:  # type: ignore[type-arg]
    shapes = [" x ".join(map(str, each[name].shape)) for each in (own, theirs) if name in each]
    return f"{name} ({shapes[0]}, there {shapes[1]})" if len(shapes) > 1 else f"{name} (new)"
