"""Model files: a round trip, readable by plain NumPy, and every kind of wrong file refused."""

import json
import re
import tracemalloc
import zipfile
from pathlib import Path

from mlx_gmvae import __version__
from mlx_gmvae.config import ModelConfig
from mlx_gmvae.errors import InputError
from mlx_gmvae.models import build_model
from mlx_gmvae.runs.checkpoint import CONFIG_KEY, load_model, save_arrays, save_model

import mlx.core as mx
import numpy as np
import pytest

CONFIG = ModelConfig(image_size=(9, 6), latent_dims=3, K=4, max_filters=8)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    mx.random.seed(0)
    path = tmp_path / "model.npz"
    save_model(path, build_model(CONFIG), data={"dataset": "digits"}, metrics={"elbo": -1.5})
    return path


def rewrite(path: Path, **changes: np.ndarray | None) -> Path:
    with np.load(path) as archive:
        arrays = dict(archive) | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def config_bytes(**changes: object) -> np.ndarray:
    info = {"format": 1, "kind": "model", "model": CONFIG.to_dict()} | changes
    return np.frombuffer(json.dumps(info).encode(), np.uint8)


def test_round_trip(saved: Path) -> None:
    mx.random.seed(0)
    original, loaded = build_model(CONFIG), load_model(saved)
    assert loaded.model.config == CONFIG
    assert loaded.data == {"dataset": "digits"}
    assert loaded.metrics == {"elbo": -1.5}
    for name, value in original.arrays().items():
        np.testing.assert_array_equal(loaded.model.arrays()[name], value)


def test_plain_numpy_and_mlx_read_it(saved: Path) -> None:
    with np.load(saved, allow_pickle=False) as archive:
        info = json.loads(archive[CONFIG_KEY].tobytes())
        names = set(archive.files)
    assert (info["format"], info["package"]) == (1, __version__)
    assert info["model"]["latent_dims"] == 3
    assert set(mx.load(str(saved))) == names


def test_saving_leaves_no_temporary_file_and_replaces_whole_files(saved: Path) -> None:
    save_model(saved, build_model(CONFIG))
    assert [path.name for path in saved.parent.iterdir()] == ["model.npz"]
    with pytest.raises(TypeError):
        save_arrays(saved, {}, {"bad": object()})
    with pytest.raises(ValueError):
        save_arrays(saved, {"bad": mx.zeros((2,), dtype=mx.bfloat16)}, {})
    assert [path.name for path in saved.parent.iterdir()] == ["model.npz"]
    assert load_model(saved).model.config == CONFIG


def test_float64_weights_become_float32(saved: Path) -> None:
    with np.load(saved) as archive:
        wide = {n: a.astype(np.float64) for n, a in archive.items() if n != CONFIG_KEY}
    arrays = load_model(rewrite(saved, **wide)).model.arrays()
    assert all(value.dtype == mx.float32 for value in arrays.values())


def test_weights_without_a_configuration(saved: Path) -> None:
    rewrite(saved, **{CONFIG_KEY: None})
    with pytest.raises(InputError, match="--config"):
        load_model(saved)
    assert load_model(saved, CONFIG).model.config == CONFIG


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({CONFIG_KEY: config_bytes(format=99)}, "format 99"),
        ({CONFIG_KEY: config_bytes(kind="state")}, "training state"),
        ({CONFIG_KEY: config_bytes(model={"K": "ten"})}, "K is 'ten'"),
        ({CONFIG_KEY: config_bytes(model={"K": 10**12})}, "K is 1000000000000"),
        ({CONFIG_KEY: config_bytes(model={"colour": 1})}, "no field colour"),
        ({CONFIG_KEY: config_bytes(model=CONFIG.to_dict() | {"K": 5})}, "classifier.out.weight is"),
        ({CONFIG_KEY: np.frombuffer(b"{", np.uint8)}, "damaged"),
        ({CONFIG_KEY: np.zeros(3)}, "no readable configuration"),
        ({CONFIG_KEY: config_bytes(data=[1])}, "is damaged"),
        ({"z_head.weight": np.zeros((2, 2), np.float32)}, "z_head.weight is"),
        ({"z_head.weight": None}, "z_head.weight is missing"),
        ({"extra": np.zeros(2)}, "extra is missing or extra"),
        ({"z_head.bias": np.array(["a"] * 6)}, "z_head.bias is"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    saved: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_model(rewrite(saved, **changes))


def test_pickles_are_never_opened(saved: Path) -> None:
    with pytest.raises(InputError):
        load_model(rewrite(saved, **{"z_head.bias": np.array([{}] * 6, dtype=object)}))


def test_a_header_that_claims_terabytes_allocates_nothing(saved: Path) -> None:
    with np.load(saved) as archive:
        others = {name: archive[name] for name in archive if name != "z_head.weight"}
    np.savez(saved, **others)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    with zipfile.ZipFile(saved, "a") as archive:
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        archive.writestr("z_head.weight.npy", content)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"z_head.weight"):
        load_model(saved)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(saved: Path, value: float) -> None:
    with np.load(saved) as archive:
        bias = archive["z_head.bias"]
    bias[2] = value
    with pytest.raises(InputError, match=r"z_head.bias is not finite"):
        load_model(rewrite(saved, **{"z_head.bias": bias}))


def test_a_deeply_nested_configuration_is_refused(saved: Path) -> None:
    nested = np.frombuffer(b"[" * 200_000 + b"]" * 200_000, np.uint8)
    with pytest.raises(InputError, match="damaged"):
        load_model(rewrite(saved, **{CONFIG_KEY: nested}))


def test_mutated_files_are_read_right_or_refused(saved: Path) -> None:
    """Bytes that say how the archive is made: versions, flags, methods, sizes, names."""
    original = saved.read_bytes()
    arrays = load_model(saved).model.arrays()
    places = [found.start() + offset for found in re.finditer(b"PK", original)
              for offset in range(4, 46)]  # fmt: skip
    random = np.random.default_rng(0)
    refused = 0
    for place in random.choice(places, 50, replace=False):
        content = bytearray(original)
        if place >= len(content):
            continue
        content[place] ^= 1 << int(random.integers(8))
        saved.write_bytes(content)
        try:
            found = load_model(saved).model.arrays()
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            for name, value in arrays.items():
                np.testing.assert_array_equal(found[name], value)
    assert refused > 6


@pytest.mark.parametrize("cut", [0, 1, 100, 5000])
def test_truncated_files_are_refused(saved: Path, cut: int) -> None:
    saved.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(InputError):
        load_model(saved)


def test_a_flipped_bit_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        start = archive.getinfo("z_head.weight.npy").header_offset
    content[start + 400] ^= 1
    saved.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load_model(saved)


def test_missing_file_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_model(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"not an \.npz"):
        load_model(tmp_path / "text.npz")
