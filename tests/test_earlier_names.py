"""What had another name in version 0.2 is still understood: flags, fields, arrays of models."""

from pathlib import Path

from mlx_gmvae.cli import train
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.models import build_model
from mlx_gmvae.runs.checkpoint import load_model, save_arrays

import mlx.core as mx
import numpy as np
import pytest


def test_flags(capsys: pytest.CaptureFixture[str]) -> None:
    args = train.parse_arguments(["--parts", "3", "--summary"])
    assert (args.sub_clusters, args.tensorboard) == (3, True)
    assert train.parse_arguments(["--sub-clusters", "4"]).sub_clusters == 4
    with pytest.raises(SystemExit):
        train.main(["--help_all"])
    shown = capsys.readouterr().out
    assert "--sub_clusters" in shown and "--parts" not in shown and "--summary" not in shown


def test_fields_of_a_configuration() -> None:
    assert TrainConfig.from_dict({"parts": 3}) == TrainConfig(sub_clusters=3)
    assert "parts" not in TrainConfig().to_dict()


def test_arrays_of_a_model(tmp_path: Path) -> None:
    config = ModelConfig(image_size=(24, 24), channels=3, classifier="patches", hidden_dims=8)
    mx.random.seed(0)
    model = build_model(config)
    arrays = {n.replace(".codebook", ".kinds"): v for n, v in model.arrays().items()}
    assert "classifier.encoder.patches.kinds" in arrays
    save_arrays(tmp_path / "old.npz", arrays, {"kind": "model", "model": config.to_dict()})
    loaded = load_model(tmp_path / "old.npz").model
    for name, value in model.arrays().items():
        np.testing.assert_array_equal(np.array(loaded.arrays()[name]), np.array(value))
