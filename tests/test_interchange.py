"""Models for other programs: .safetensors files, and functions that MLX runs by itself."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import generate
import mlx_gmvae as mg
from mlx_gmvae.runs.checkpoint import load_model, save_model

import mlx.core as mx
import numpy as np
import pytest
from conftest import ROOT

DIGITS = ROOT / "pretrained/gmvae_digits_K10_dims_0008.npz"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("converted") / "model.safetensors"
    mg.load(DIGITS).save(path)
    return path


def test_safetensors_hold_what_an_npz_does(converted: Path, tmp_path: Path) -> None:
    ours, theirs = load_model(DIGITS), load_model(converted)
    assert (ours.data, ours.metrics) == (theirs.data, theirs.metrics)
    assert ours.training == theirs.training
    for name, value in ours.model.arrays().items():
        np.testing.assert_array_equal(value, theirs.model.arrays()[name], err_msg=name)
    content: Any = mx.load(str(converted), return_metadata=True)
    arrays, metadata = content
    assert set(arrays) == set(ours.model.arrays())
    assert json.loads(metadata["mlx_gmvae"])["model"]["K"] == 10
    options = f"--model {converted} --num 2 --outfile {tmp_path}/s.png"
    assert generate.main(options.split()) == 0
    assert not list(converted.parent.glob(".saving-*"))


def damaged(path: Path, change: str) -> bytes:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = next(key for key in header if key != "__metadata__")
    if change == "cut":
        return content[: len(content) // 2]
    if change == "longer":
        return struct.pack("<Q", 1 << 60) + content[8:]
    if change == "shape":
        header[name]["shape"] = [1 << 40, 3]
    if change == "no configuration":
        header["__metadata__"] = {}
    if change == "JSON":
        header["__metadata__"]["mlx_gmvae"] = "{"
    if change == "nested":
        header["__metadata__"]["mlx_gmvae"] = "[" * 100_000
    if change == "offsets":
        header[name]["data_offsets"] = [0, 1 << 50]
    encoded = json.dumps([1] if change == "list" else header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + body


CHANGES = ["cut", "longer", "shape", "no configuration", "JSON", "nested", "offsets", "list"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_one_is_refused_in_one_line(
    change: str, converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(damaged(converted, change))
    assert generate.main(["--model", str(path), "--outfile", str(tmp_path / "s.png")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(path) in error


def test_weights_that_are_not_finite_are_refused(converted: Path, tmp_path: Path) -> None:
    model = load_model(converted).model
    model.update({"classifier": {"out": {"bias": mx.full((10,), float("nan"))}}})
    save_model(tmp_path / "nan.safetensors", model)
    with pytest.raises(ValueError, match=r"classifier\.out\.bias is not finite"):
        load_model(tmp_path / "nan.safetensors")


USE = """
import mlx.core as mx, numpy as np
decode = mx.import_function("decode.mlxfn")
(images,) = decode(mx.array(np.load("z.npy")))
np.save("images.npy", images)
import sys; assert not [name for name in sys.modules if name.startswith("mlx_gmvae")]
"""


def test_exported_functions_run_without_this_package(tmp_path: Path) -> None:
    model: Any = mg.load(DIGITS)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 8)).astype(np.float32)
    written = model.export(tmp_path, 1, 5)
    assert [path.name for path in written] == [
        "encode.mlxfn", "decode.mlxfn", "responsibilities.mlxfn",
    ]  # fmt: skip
    np.save(tmp_path / "z.npy", z)
    subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, check=True)
    images = model.decode(z)
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), images, atol=1e-5)
    for name in ("encode", "responsibilities"):
        function: Any = mx.import_function(str(tmp_path / f"{name}.mlxfn"))
        for some in (images, images[:1]):
            (found,) = function(mx.array(some))
            np.testing.assert_allclose(np.array(found), getattr(model, name)(some), atol=1e-4)
