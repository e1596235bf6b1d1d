"""Preprocessing of images for an encoder, according to its preprocessor_config.json.

The pixels equal those of the PIL-based image processors of the transformers package.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..data.fitting import Size
from ..errors import InputError

LARGEST = 4096  # pixels
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALVES = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SQUARE, SHORTEST = {"height": 224, "width": 224}, {"shortest_edge": 224}
BILINEAR, BICUBIC = Image.Resampling.BILINEAR.value, Image.Resampling.BICUBIC.value
COMMON = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
CROPPED = COMMON | {
    "size": SHORTEST, "do_center_crop": True, "crop_size": SQUARE, "resample": BICUBIC,
    "image_mean": CLIP_MEAN, "image_std": CLIP_STD,
}  # fmt: skip
RESIZED = COMMON | {
    "size": SQUARE, "do_center_crop": False, "crop_size": SQUARE, "resample": BILINEAR,
    "image_mean": HALVES, "image_std": HALVES,
}  # fmt: skip
DINOV3 = "DINOv3ViTImageProcessor"
DEFAULTS: dict[str, dict[str, Any]] = {  # by image_processor_type, without Fast and Pil
    "BitImageProcessor": CROPPED,
    "CLIPImageProcessor": CROPPED,
    "ViTImageProcessor": RESIZED,
    "SiglipImageProcessor": RESIZED | {"resample": BICUBIC},
    DINOV3: RESIZED | {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD},
}


@dataclass(frozen=True)
class Preprocessing:
    """Resizing, centre crop, and normalisation, pixels * `scale` + `shift` for each channel.

    `shortest` is the length of the shorter side after resizing. If it is 0, `size` is the height
    and width; if that is (0, 0) too, images are not resized. A `crop` of (0, 0) is no crop.
    """

    shortest: int
    size: Size
    crop: Size
    resample: int
    scale: tuple[float, float, float]
    shift: tuple[float, float, float]
    in_floats: bool = False  # whether resized pixels are not rounded to bytes

    @property
    def image_size(self) -> Size:
        """Height and width of the input of the network."""
        return self.crop if any(self.crop) else self.size

    @property
    def least_size(self) -> int:
        """Height and width from which on images are not enlarged."""
        return self.shortest or max(self.size) or max(self.crop)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return an RGB image resized and cropped, (H, W, 3), bytes or floats in [0, 255]."""
        width, height = image.size
        size = self.size
        if self.shortest:
            long = int(self.shortest * max(width, height) / min(width, height))
            size = (long, self.shortest) if width <= height else (self.shortest, long)
        pixels = self._resized(image, size) if any(size) else np.asarray(image)
        return _middle(pixels, self.crop) if any(self.crop) else pixels

    def _resized(self, image: Image.Image, size: Size) -> np.ndarray:
        to, method = (size[1], size[0]), Image.Resampling(self.resample)
        if not self.in_floats:
            return np.asarray(image.resize(to, method))
        bands = (np.asarray(band, np.float32) for band in image.split())
        resized = [np.asarray(Image.fromarray(band).resize(to, method)) for band in bands]
        return np.stack(resized, axis=-1)


def parse(content: Mapping[str, Any], path: str, usual: str) -> Preprocessing:
    """Parse preprocessor_config.json; `usual` is the default image processor.

    Raises InputError if it is not supported.
    """
    name = content.get("image_processor_type") or content.get("feature_extractor_type") or usual
    kind = str(name).removesuffix("Fast").removesuffix("Pil")
    kind = kind.replace("FeatureExtractor", "ImageProcessor")
    if kind not in DEFAULTS:
        raise InputError(
            f"{path} is for a {name}, which is not supported; choose one of {', '.join(DEFAULTS)}"
        )
    given = DEFAULTS[kind] | {name: value for name, value in content.items() if value is not None}
    try:
        return _parsed(given, kind)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} cannot be used ({error}); download it again") from None


def _parsed(given: Mapping[str, Any], kind: str) -> Preprocessing:
    is_cropped = kind in ("BitImageProcessor", "CLIPImageProcessor")
    shortest, size = _size(given["size"], shortest=is_cropped)
    if not given["do_resize"]:
        shortest, size = 0, (0, 0)
    crop = _size(given["crop_size"], shortest=False)[1] if given["do_center_crop"] else (0, 0)
    if shortest and not any(crop):
        raise ValueError("images of several sizes, since do_center_crop is false")
    if not any((*size, *crop)):
        raise ValueError("it neither resizes nor crops images")
    factor = float(given["rescale_factor"]) if given["do_rescale"] else 1.0
    mean, std = np.zeros(3), np.ones(3)
    if given["do_normalize"]:
        mean, std = (np.array(given[name], np.float64) for name in ("image_mean", "image_std"))
    mean, std = np.broadcast_to(mean, 3), np.broadcast_to(std, 3)
    if not (np.isfinite([*mean, factor]).all() and (std > 0).all() and np.isfinite(std).all()):
        raise ValueError("mean, std and rescale_factor must be finite, and std positive")
    resample = Image.Resampling(given["resample"]).value
    scale, shift = (factor / std).tolist(), (-mean / std).tolist()
    return Preprocessing(
        shortest, size, crop, resample, tuple(scale), tuple(shift), in_floats=kind == DINOV3
    )


def _size(value: Any, shortest: bool) -> tuple[int, Size]:
    """Return (shorter side, (0, 0)), or (0, (height, width)); `shortest` is for a single number."""
    if isinstance(value, int):
        value = {"shortest_edge": value} if shortest else {"height": value, "width": value}
    if "shortest_edge" in value:
        if value.get("longest_edge"):
            raise ValueError("longest_edge is not supported")
        return _side(value["shortest_edge"]), (0, 0)
    return 0, (_side(value["height"]), _side(value["width"]))


def _side(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST:
        raise ValueError(f"a size is {value!r}; it must be from 1 to {LARGEST}")
    return value


def _middle(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Return the centre crop (height, width) of an image, padded with black if it is smaller."""
    (height, width), (rows, columns) = size, pixels.shape[:2]
    if height > rows or width > columns:
        whole = np.zeros((max(height, rows), max(width, columns), 3), pixels.dtype)
        top = math.ceil((len(whole) - rows) / 2)
        left = math.ceil((whole.shape[1] - columns) / 2)
        whole[top : top + rows, left : left + columns] = pixels
        # As in the transformers package, which adds the margin to the former centre.
        top, left = top + (rows - height) // 2, left + (columns - width) // 2
        return whole[max(0, top) : top + height, max(0, left) : left + width]
    top, left = (rows - height) // 2, (columns - width) // 2
    return pixels[top : top + height, left : left + width]
