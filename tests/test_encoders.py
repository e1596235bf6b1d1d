"""Encoders against the transformers package; folders that are damaged, hostile or another's."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_gmvae.device import backend
from mlx_gmvae.encoders import activations
from mlx_gmvae.encoders.encoder import (
    HALF_TOLERANCE,
    Encoder,
    EncoderId,
    differences,
    half_precision,
    load_encoder,
    load_same,
)
from mlx_gmvae.errors import InputError

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from encoder_oracle import EVERY, FOLDER, OTHER_SIZE, photographs
from PIL import Image

TOLERANCE = 1e-4
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
expected = np.load(FOLDER / "expected.npz")


def copied(name: str, place: Path, **config: Any) -> Path:
    """A copy of an encoder's folder, with other values in its config.json."""
    folder = place / name
    shutil.copytree(FOLDER / name, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def at_size(encoder: Encoder, at: str) -> Encoder:
    """The encoder, or one that sees images of another size than it was trained on."""
    old = encoder.preprocessing
    if at == "own":
        return encoder
    size, crop = (old.size, OTHER_SIZE) if any(old.crop) else (OTHER_SIZE, old.crop)
    changed = dataclasses.replace(old, size=size, crop=crop)
    return Encoder(encoder.id, changed, encoder.network)


@pytest.mark.parametrize("name", NAMES)
def test_features_and_pixels_are_those_of_transformers(name: str) -> None:
    for at in ("own", "other"):
        encoder = at_size(load_encoder(FOLDER / name), at)
        pixels = np.stack(
            [encoder.preprocessing.pixels(Image.fromarray(i)) for i in photographs().values()]
        )
        images = np.asarray(encoder.normalised(pixels)).transpose(0, 3, 1, 2)
        features = encoder.features(pixels)
        with backend.as_on_gpu():
            on_gpu = np.asarray(encoder.network(encoder.normalised(pixels)))
        for row, which in enumerate(photographs()):
            wanted = expected[f"{name}/{which}/{at}/pixels"]
            np.testing.assert_allclose(images[row][:, ::EVERY], wanted, rtol=0, atol=TOLERANCE)
            wanted = expected[f"{name}/{which}/{at}/features"]
            if backend.on_gpu():  # in half precision
                assert differences(mx.array(features[row]), mx.array(wanted)) < HALF_TOLERANCE
            else:
                np.testing.assert_allclose(features[row], wanted, rtol=0, atol=TOLERANCE)
            np.testing.assert_allclose(on_gpu[row], wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["dinov2_with_registers", "clip", "siglip", "dinov3_vit_gated"])
def test_half_precision_agrees(name: str) -> None:
    encoder = load_encoder(FOLDER / name)
    pictures = [Image.fromarray(image) for image in photographs().values()]
    pixels = np.stack([encoder.preprocessing.pixels(picture) for picture in pictures])
    with backend.as_on_gpu():
        features = encoder.features(pixels)
    assert encoder._half is not None and encoder._half.norm.weight.dtype == mx.float16
    whole = encoder.network(encoder.normalised(pixels))
    assert 0 < differences(whole, mx.array(features)) < HALF_TOLERANCE
    # Weights that 16 bits cannot hold leave the network as it was.
    encoder = load_encoder(FOLDER / name)
    encoder.network.layers[0].mlp.down.weight *= 1e6
    with backend.as_on_gpu():
        encoder.features(pixels)
    assert encoder._half is None
    assert half_precision(encoder.network).norm.weight.dtype == mx.float16


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (activations.gelu, nn.gelu),
        (activations.gelu_tanh, nn.gelu_approx),
        (activations.silu, nn.silu),
        (activations.quick_gelu, nn.gelu_fast_approx),
    ],
)
def test_activations_from_products_are_exact(
    ours: Callable[[mx.array], mx.array], theirs: Callable[[mx.array], mx.array]
) -> None:
    x = mx.array(np.concatenate([np.linspace(-12, 12, 4001), [-1e4, -300.0, 300.0, 1e4]]))
    x = x.astype(mx.float32)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=2e-6)


def test_attention_from_products_is_exact() -> None:
    rng = np.random.default_rng(0)
    queries, keys, values = (mx.array(rng.normal(size=(2, 3, n, 8)) * 2) for n in (4, 50, 50))
    queries, keys, values = (x.astype(mx.float32) for x in (queries, keys, values))
    found = activations.attention(queries, keys, values)
    wanted = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=8**-0.5)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_loading_draws_no_random_numbers() -> None:
    mx.random.seed(3)
    wanted = mx.random.uniform()
    mx.random.seed(3)
    load_encoder(FOLDER / "vit")
    assert mx.random.uniform() == wanted


def test_identity_is_kept_and_another_encoder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = copied("vit", tmp_path)
    identity = load_encoder(folder).id
    assert identity.repository == "~/vit"  # models do not name the user
    assert EncoderId.from_dict(json.loads(json.dumps(identity.to_dict()))) == identity
    assert load_same(identity).id == identity
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="other weights"):
        load_same(identity)
    with pytest.raises(InputError, match="described by repository"):
        EncoderId.from_dict({"repository": 3})


def test_shards_are_read(tmp_path: Path) -> None:
    folder = copied("clip", tmp_path)
    arrays: Any = mx.load(str(folder / "model.safetensors"))
    names = sorted(arrays)
    places: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-{number}.safetensors"
        mx.save_safetensors(str(folder / file), {name: arrays[name] for name in part})
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    pixels = np.zeros((1, 56, 56, 3), np.uint8)
    wanted = load_encoder(FOLDER / "clip").features(pixels)
    np.testing.assert_array_equal(load_encoder(folder).features(pixels), wanted)
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model-1\.safetensors, which model\.safetens"):
        load_encoder(folder)
    index.write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(InputError, match=r"no \.safetensors file beside it"):
        load_encoder(folder)


def changed_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.safetensors"
    arrays: Any = mx.load(str(path))
    arrays = {name: np.array(array) for name, array in arrays.items()}
    change(arrays)
    mx.save_safetensors(str(path), {name: mx.array(array) for name, array in arrays.items()})


Q = "encoder.layer.1.attention.attention.query.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop(Q), r"lack layers\.1\.attention\.query\.weight, which a vit has"),
        (lambda a: a.update({Q: a[Q][:-1]}), r"shape \(15, 16\), but config.json needs \(16, 16\)"),
        (lambda a: a.update({Q: a[Q] * np.nan}), r"NaN or infinite weights in layers\.1\."),
        (lambda a: a.update({Q: a[Q].astype(np.int32)}), "type I32; weights must be floats"),
        (
            lambda a: a.update({Q.replace(".1.", ".2."): a[Q],
                                "encoder.layer.2.layernorm_before.weight": a[Q][0]}),
            "more layers than the 2",
        ),
    ],
)  # fmt: skip
def test_wrong_weights_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    folder = copied("vit", tmp_path)
    changed_weights(folder, change)
    with pytest.raises(InputError, match=message):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "resnet"}, "architecture 'resnet', which is not supported; choose"),
        ({"model_type": None}, "architecture None"),
        ({"hidden_size": 10**12}, "hidden_size is 1000000000000; it must be from 1 to"),
        ({"hidden_size": "16"}, "hidden_size is '16'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 200}, "lack layers"),
        ({"num_attention_heads": 3}, "hidden_size 16 cannot be split into 3 heads"),
        ({"patch_size": 80}, "a patch of 80 pixels is larger than the image"),
        ({"patch_size": [14, 7]}, "patch_size is"),
        ({"hidden_act": "relu6"}, "hidden_act is 'relu6'"),
        ({"layer_norm_eps": -1}, "layer_norm_eps is -1"),
        ({"num_channels": 1}, "num_channels is 1"),
    ],
)
def test_strange_configurations_are_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_encoder(copied("vit", tmp_path, **config))


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"image_processor_type": "LayoutLMImageProcessor"}, "is for a LayoutLMImageProcessor"),
        ({"size": {"height": 10**9, "width": 3}}, "a size is 1000000000"),
        ({"size": {"longest": 3}}, "cannot be used"),
        ({"size": {"shortest_edge": 56}}, "images of several sizes"),
        ({"image_std": [0, 1, 1]}, "cannot be used"),
        ({"resample": 77}, "cannot be used"),
        ({"size": 8}, "smaller than a patch of 14"),
    ],
)
def test_strange_preprocessing_is_refused(
    tmp_path: Path, processor: dict[str, Any], message: str
) -> None:
    folder = copied("vit", tmp_path)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | processor))
    with pytest.raises(InputError, match=message):
        load_encoder(folder)


def test_older_preprocessor_files_mean_the_same(tmp_path: Path) -> None:
    """Sizes as numbers, and processors by their old names."""
    for name in ("vit", "clip"):
        folder = copied(name, tmp_path)
        path = folder / "preprocessor_config.json"
        new = json.loads(path.read_text())
        old = new | {"size": 61 if name == "clip" else 56, "crop_size": 56}
        kind = old.pop("image_processor_type").replace("ImageProcessor", "FeatureExtractor")
        path.write_text(json.dumps(old | {"feature_extractor_type": kind}))
        found = load_encoder(folder).preprocessing
        assert found == load_encoder(FOLDER / name).preprocessing


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json; copy it there"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
        (lambda f: (f / "config.json").write_text("[" * 10**5), "config.json is damaged"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors; choose another"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "weights in pytorch_model.bin only",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes(
                (f / "model.safetensors").read_bytes()[:-100]
            ),
            "is damaged or not a .safetensors file",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"PK"), "is damaged or not a .safet"),
    ],
)
def test_folders_that_lack_something_are_refused(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    folder = copied("dinov2", tmp_path)
    spoil(folder)
    with pytest.raises(InputError, match=message) as refused:
        load_encoder(folder)
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize("name", ["no-such-encoder", "./vit", "a/b/c", "features.npy", ""])
def test_names_that_are_no_encoders_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"there is no encoder|has no config"):
        load_encoder(name)
