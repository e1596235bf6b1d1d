"""Expected features and pixels of encoders, computed by transformers for the tests.

    python benchmarks/encoder_oracle.py

It needs torch, transformers and scikit-learn. transformers saves tiny random models of each
architecture into tests/encoders/, with weights of 16 bits. expected.npz there has its results for
photographs of odd sizes: some pixels of its PIL-based image processors, and features. Both are at
the models' own size and at another one, for which positions are interpolated. `python
benchmarks/encoders.py --agreement` writes the largest differences to benchmarks/results.
"""

from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "encoders"
OTHER_SIZE = (84, 70)
EVERY = 9  # every ninth row of pixels is kept
SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56,
    "patch_size": 14,
}  # fmt: skip
TOWER = SMALL | {"intermediate_size": 32}
TEXT = {
    "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4,
    "vocab_size": 8, "max_position_embeddings": 4, "bos_token_id": 0, "eos_token_id": 1,
    "pad_token_id": 2,
}  # fmt: skip
CROP = {"size": {"shortest_edge": 61}, "crop_size": {"height": 56, "width": 56}}
SQUARE = {"size": {"height": 56, "width": 56}}
DINOV3 = {  # its processor needs torchvision: it resizes floats, as torch with antialiasing
    "image_processor_type": "DINOv3ViTImageProcessorFast", "do_resize": True, "do_rescale": True,
    "do_normalize": True, "do_center_crop": None, "rescale_factor": 1 / 255, "resample": 2,
    "size": {"height": 56, "width": 56}, "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip


def photographs() -> dict[str, np.ndarray]:
    """Return crops of photographs, (H, W, 3) uint8: wide, tall, smaller than the input, thin."""
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    return {
        "wide": china[:301, :433],
        "tall": flower[40:417, 200:419],
        "small": china[100:131, 50:97],
        "thin": flower[:57, :600],
    }


def models() -> dict[str, Any]:
    """Yield a folder name, a model, its processor and its features."""
    import transformers as t

    def cls(model: Any, pixels: Any) -> Any:
        return model(pixels).last_hidden_state[:, 0]

    def cls_elsewhere(model: Any, pixels: Any) -> Any:
        return model(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]

    def pooled(model: Any, pixels: Any) -> Any:
        return model(pixels, interpolate_pos_encoding=True).pooler_output

    def projected(model: Any, pixels: Any) -> Any:
        return model.get_image_features(pixels, interpolate_pos_encoding=True).pooler_output

    def embedded(model: Any, pixels: Any) -> Any:
        return model(pixels, interpolate_pos_encoding=True).image_embeds

    bit = t.BitImageProcessorPil(**CROP, image_mean=[0.485, 0.456, 0.406])
    clip, vit = t.CLIPImageProcessorPil(**CROP), t.ViTImageProcessorPil(**SQUARE)
    siglip, registers = t.SiglipImageProcessorPil(**SQUARE), t.Dinov2WithRegistersModel
    with_registers = {"patch_size": 14, "num_register_tokens": 3}
    rope = TOWER | {"num_register_tokens": 2, "patch_size": 16}
    return {
        "dinov2": (t.Dinov2Model(t.Dinov2Config(**SMALL)), bit, cls),
        "dinov2_swiglu": (
            t.Dinov2Model(t.Dinov2Config(**SMALL, use_swiglu_ffn=True)), bit, cls
        ),
        "dinov2_with_registers": (
            registers(t.Dinov2WithRegistersConfig(**SMALL | with_registers)), bit, cls
        ),
        "vit": (t.ViTModel(t.ViTConfig(**TOWER)), vit, cls_elsewhere),
        "clip": (
            t.CLIPModel(t.CLIPConfig(text_config=TEXT, vision_config=TOWER, projection_dim=12)),
            clip, projected,
        ),
        "clip_vision_model": (t.CLIPVisionModel(t.CLIPVisionConfig(**TOWER)), clip, pooled),
        "clip_vision_projection": (
            t.CLIPVisionModelWithProjection(t.CLIPVisionConfig(**TOWER, projection_dim=12)),
            clip, embedded,
        ),
        "siglip": (
            t.SiglipModel(t.SiglipConfig(text_config=TEXT, vision_config=TOWER)), siglip,
            lambda model, pixels: pooled(model.vision_model, pixels),
        ),
        "siglip_vision_model": (t.SiglipVisionModel(t.SiglipVisionConfig(**TOWER)), siglip, pooled),
        "dinov3_vit": (t.DINOv3ViTModel(t.DINOv3ViTConfig(**rope)), None, cls),
        "dinov3_vit_gated": (
            t.DINOv3ViTModel(t.DINOv3ViTConfig(**rope, use_gated_mlp=True, hidden_act="silu")),
            None, cls,
        ),
    }  # fmt: skip


def randomise(model: Any) -> None:
    """Draw weights with which every part of a model matters, in numbers that fit 16 bits."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1 and "embedding" not in name and "token" not in name:
            noise *= (parameter[0].numel()) ** -0.5
        elif "norm" in name and name.endswith("weight"):
            noise = 1 + 0.3 * noise
        else:
            noise *= 0.5
        parameter.data = noise.half().float()


def pixels_of(processor: Any, image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Return the input of a model, (3, H, W), at its own size or another."""
    from PIL import Image

    if processor is None:
        return dinov3_pixels(image, size or (56, 56))
    options = {}
    if size:
        which = "crop_size" if hasattr(processor, "do_center_crop") else "size"
        options[which] = {"height": size[0], "width": size[1]}
        if which == "crop_size" and processor.do_center_crop is None:
            options = {"size": options[which]}
    picture = Image.fromarray(image)
    return np.asarray(processor(picture, return_tensors="np", **options)["pixel_values"][0])


def dinov3_pixels(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import torch

    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] * DINOV3["rescale_factor"]
    pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(DINOV3[f"image_{name}"])[:, None, None] for name in ("mean", "std"))
    return ((pixels - mean) / std)[0].numpy()


def main() -> None:
    import json

    import torch

    expected = {}
    for name, (model, processor, features) in models().items():
        randomise(model.eval())
        folder = FOLDER / name
        for which, image in photographs().items():
            for at, size in {"own": None, "other": OTHER_SIZE}.items():
                pixels = pixels_of(processor, image, size)
                with torch.no_grad():
                    row = features(model, torch.from_numpy(pixels)[None].float())
                expected[f"{name}/{which}/{at}/features"] = row[0].numpy()
                expected[f"{name}/{which}/{at}/pixels"] = pixels[:, ::EVERY].astype(np.float32)
        model.half().save_pretrained(folder)
        if processor is None:
            (folder / "preprocessor_config.json").write_text(json.dumps(DINOV3, indent=2))
        else:
            processor.save_pretrained(folder)
        print(name, *sorted(path.name for path in folder.iterdir()))
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
