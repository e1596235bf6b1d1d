"""Augmentation: random changes of images that keep their class, in MLX, inside the step.

`suitable` chooses the kinds of augmentation for a set from its images, without labels.
"""

import math
from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from ..data.images import Images
from ..device.randomness import random_rows
from ..errors import InputError
from . import affine
from .descriptors import describe

OUTLINED, BLURRED = 0.15, 0.2  # shares of the images that become outlines, or are blurred
GAIN, TINT, CONTRAST, SATURATION = 0.4, 0.2, 0.4, 0.6
GREY = 0.2  # share of the images that lose their colours

LOOKED_AT = 2000  # images, from which the kinds are chosen
TWO_TONE = 0.5  # share of an image's pixels, between that of drawings and of photographs
TONE_PARTS = 8  # equal parts of an image's range; tones in the first and the last are extreme
AS_NEAR = 1.1  # times the distance of an image to its neighbours


class Augmentation:
    """Augmentation of the given kinds, from KINDS, applied one after the other.

    >>> x = mx.random.uniform(shape=(5, 28, 28, 1))
    >>> Augmentation(["affine", "strokes"])(x).shape
    (5, 28, 28, 1)
    """

    def __init__(self, kinds: Sequence[str]):
        self.kinds = [name for name in KINDS if name in kinds]

    def draw(self, num: int) -> mx.array | None:
        """Draw the random numbers for `num` images: (R, num), uniform in [-1, 1]."""
        numbers = sum(KINDS[name][1] for name in self.kinds)
        return mx.random.uniform(-1, 1, (numbers, num)) if numbers else None

    def __call__(self, x: mx.array, drawn: mx.array | None = None) -> mx.array:
        """Augment images (B, H, W, C) in [0, 1] by the numbers of `draw`, or by new ones."""
        drawn = self.draw(len(x)) if drawn is None else drawn
        first = 0
        for name in self.kinds:
            augment, numbers = KINDS[name]
            assert drawn is not None
            x = augment(x, drawn[first : first + numbers])
            first += numbers
        return x


def kinds_of(names: str) -> list[str]:
    """Return the kinds named in a string like "affine,strokes" or "none". Raises InputError."""
    kinds = [] if names == "none" else names.split(",")
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(
                f"augment is {names!r}; it must be auto, none, or a comma-separated list of "
                f"{', '.join(KINDS)}"
            )
    return kinds


def without_strokes(kinds: Sequence[str]) -> list[str]:
    """Return the kinds without strokes, for after the merge: style may separate clusters again."""
    return [kind for kind in kinds if kind != "strokes"]


def flip(x: mx.array, numbers: mx.array) -> mx.array:
    """Mirror each image with probability 1/2."""
    (side,) = numbers
    return mx.where(_each(side) > 0, x, x[:, :, ::-1])


def colour(x: mx.array, numbers: mx.array) -> mx.array:
    """Change the brightness, tint, contrast and saturation of images, or make them grey."""
    gain, contrast, saturation, is_grey, *tint = numbers
    light = mx.stack(tint, axis=-1)[:, None, None, : x.shape[-1]]
    x = x * (1 + GAIN * _each(gain)) * (1 + TINT * light)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    x = mean + (x - mean) * (1 + CONTRAST * _each(contrast))
    grey = x.mean(axis=-1, keepdims=True)
    kept = mx.where(_share(is_grey) < GREY, 0, 1 + SATURATION * _each(saturation))
    return mx.clip(grey + (x - grey) * kept, 0, 1)


def strokes(x: mx.array, numbers: mx.array) -> mx.array:
    """Make strokes thicker or thinner; turn some images into outlines, and blur some.

    This is grey dilation and erosion over the four nearest pixels. A dark background stays dark, a
    bright one bright.
    """
    thickness, outline, blur = numbers
    thickness = _each(thickness)
    around = _shifted(x)
    upper, lower = x, x
    for each in around:
        upper, lower = mx.maximum(upper, each), mx.minimum(lower, each)
    changed = x + mx.maximum(thickness, 0) * (upper - x) + mx.minimum(thickness, 0) * (x - lower)
    edges = mx.concatenate([x[:, :1], x[:, -1:]], axis=1).mean(axis=(1, 2, 3), keepdims=True)
    outlines = mx.where(edges > 0.5, 1 - (x - lower), upper - x)
    changed = mx.where(_share(outline) < OUTLINED, outlines, changed)
    smooth = (sum(around[1:], around[0]) + 4 * x) / 8
    return mx.where(_share(blur) < BLURRED, smooth, changed)


def _shifted(x: mx.array) -> list[mx.array]:
    """Return the neighbours of each pixel above, below, left and right; the border continues."""
    _, height, width, _ = x.shape
    padded = mx.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge")
    return [
        padded[:, row : row + height, column : column + width]
        for row, column in ((0, 1), (2, 1), (1, 0), (1, 2))
    ]


def _each(numbers: mx.array) -> mx.array:
    return numbers[:, None, None, None]


def _share(numbers: mx.array) -> mx.array:
    """Return numbers uniform in [0, 1], to compare with a share of the images."""
    return (_each(numbers) + 1) / 2


# Each kind and how many numbers it draws for an image, in the order in which they are applied.
KINDS: dict[str, tuple[Callable[[mx.array, mx.array], mx.array], int]] = {
    "flip": (flip, 1),
    "colour": (colour, 7),
    "strokes": (strokes, 3),
    "affine": (affine.affine, affine.NUMBERS),
}


def suitable(images: Images) -> tuple[str, str]:
    """Return the augmentations for uint8 images (N, H, W, C), comma-separated, and the reason.

    "affine" is always used, "strokes" for drawings, which have two tones, and "colour" for colour
    images that are not drawings. "flip" is used if mirrored images are as near to the others as the
    images themselves, which is not so for letters.
    """
    rows = random_rows(len(images), LOOKED_AT)
    some = images[np.sort(rows)]
    kinds = ["affine"]
    share = two_tone(some)
    reason = f"{share:.0%} of pixels are near their image's darkest or lightest"
    reason += f", strokes need {TWO_TONE:.0%}"
    if share >= TWO_TONE:
        kinds.append("strokes")
    elif some.shape[-1] == 3:
        kinds.append("colour")
    distance = mirrored_distance(some)
    if distance <= AS_NEAR:
        kinds.append("flip")
    mirrored = f"mirrored images are {distance:.2f} times as far, flip needs at most {AS_NEAR}"
    return ",".join(kinds), f"{reason}; {mirrored}"


def two_tone(images: np.ndarray) -> float:
    """Return the median share of an image's pixels that have nearly its lightest or darkest tone.

    Nearly means within an eighth of the range between the two. The share is 0.66 (scans of 8
    pixels) to 0.92 for drawings on any background, and 0.03 to 0.27 for photographs and textures.
    """
    grey = images.mean(axis=-1, dtype=np.float32).reshape(len(images), -1)
    darkest, lightest = grey.min(axis=1, keepdims=True), grey.max(axis=1, keepdims=True)
    margin = (lightest - darkest) / TONE_PARTS
    is_extreme = (grey <= darkest + margin) | (grey >= lightest - margin)
    return float(np.median(is_extreme.mean(axis=1)))


def mirrored_distance(images: np.ndarray) -> float:
    """Return the distance of mirrored images from the others, relative to that of the images."""
    from sklearn.neighbors import NearestNeighbors

    num = len(images)
    if num < 2:
        return math.inf
    described = describe(np.concatenate([images, images[:, :, ::-1]]), "hog")
    index = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(described[:num])
    distances, rows = index.kneighbors(described)
    own = rows == np.tile(np.arange(num), 2)[:, None]
    nearest = np.where(own[:, 0], distances[:, 1], distances[:, 0])
    mirrored, before = float(np.median(nearest[num:])), float(np.median(nearest[:num]))
    if before == 0:  # most images occur twice
        return 1.0 if mirrored == 0 else math.inf
    return mirrored / before
