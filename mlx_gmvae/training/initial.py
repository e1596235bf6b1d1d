"""Starting from the weights of a trained model, as far as they fit: fine-tuning on other images."""

from ..errors import InputError
from ..models.base import LatentVariableModel
from .trainer import Trainer

OUT = "classifier.out"
MOST_NAMED = 4


def start_from(trainer: Trainer, other: LatentVariableModel) -> str:
    """Take over each array of `other` that a Trainer's model has in the same shape.

    A line that says how many those are, and what is left as it was. The first of the heads that
    compete ends as `other` did; the rest start anew, so that it must be the best to stay.
    """
    own, theirs = trainer.model.arrays(), other.arrays()
    fitting = {n: value for n, value in theirs.items() if n in own and own[n].shape == value.shape}
    if not fitting:
        raise InputError("nothing of the model to start from fits this one; leave --init away")
    trainer.model.load_weights(list(fitting.items()), strict=False)
    patches = {name for name in own if ".patches." in name}
    trainer.has_codebook = bool(patches) and patches <= set(fitting)
    heads = trainer.objective.heads
    if heads is not None and {f"{OUT}.weight", f"{OUT}.bias"} <= set(fitting):
        heads.weight[0] = fitting[f"{OUT}.weight"]
        heads.bias[0] = fitting[f"{OUT}.bias"]
    line = f"{len(fitting)} of {len(own)} arrays of the model taken over"
    left = [_difference(name, own, theirs) for name in own if name not in fitting]
    if left:
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        line += f"; left at their start: {', '.join(left[:MOST_NAMED])}{more}"
        height, width, _ = other.config.image_shape
        if trainer.model.config.image_size != other.config.image_size:
            line += f"; its images are of --image_size {height} {width}"
    return line


def _difference(name: str, own: dict, theirs: dict) -> str:  # type: ignore[type-arg]
    shapes = [" x ".join(map(str, each[name].shape)) for each in (own, theirs) if name in each]
    return f"{name} ({shapes[0]}, there {shapes[1]})" if len(shapes) > 1 else f"{name} (new)"
