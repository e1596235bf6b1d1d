"""--init: a training that starts from the weights of another model."""

import json
import zlib
from pathlib import Path

import train
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data.splits import Dataset
from mlx_gmvae.errors import InputError
from mlx_gmvae.models import build_model
from mlx_gmvae.runs import provenance
from mlx_gmvae.runs.checkpoint import save_model
from mlx_gmvae.training.api import new_trainer
from mlx_gmvae.training.initial import start_from
from mlx_gmvae.training.trainer import Trainer

import numpy as np
import pytest

SMALL = {"arch": "mlp", "image_size": (8, 8), "hidden_dims": 16, "latent_dims": 2}
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)


def trainer(**options: object) -> Trainer:
    config = ModelConfig.from_dict({**SMALL, "K": 3, **options})
    return new_trainer(
        build_model(config), IMAGES, TrainConfig(neighbours=2, heads=4, sub_clusters=1)
    )


def test_all_that_fits_is_taken_over_and_the_first_head_is_the_other_models_own() -> None:
    other, mine = build_model(ModelConfig.from_dict({**SMALL, "K": 3})), trainer()
    number = len(other.arrays())
    assert start_from(mine, other) == f"{number} of {number} arrays of the model copied"
    for name, value in other.arrays().items():
        np.testing.assert_array_equal(mine.model.arrays()[name], value)
    assert mine.objective.heads is not None
    np.testing.assert_array_equal(mine.objective.heads.weight[0], other.classifier.out.weight)
    assert (mine.objective.heads.weight[1] != other.classifier.out.weight).any()


def test_what_does_not_fit_stays_and_is_named() -> None:
    other, mine = build_model(ModelConfig.from_dict({**SMALL, "K": 5})), trainer()
    before = dict(mine.model.arrays())
    line = start_from(mine, other)
    assert "not copied: " in line and "classifier.out.bias (3, there 5)" in line
    for name, value in mine.model.arrays().items():
        fits = other.arrays()[name].shape == value.shape
        np.testing.assert_array_equal(value, (other.arrays() if fits else before)[name])
    wide = build_model(ModelConfig.from_dict({**SMALL, "K": 3, "image_size": (9, 9)}))
    assert start_from(trainer(), wide).endswith("; its images have --image_size 9 9")


def test_patches_are_learned_anew_unless_all_of_them_fit() -> None:
    options = {"classifier": "patches", "arch": "conv", "max_filters": 8, "K": 3}
    grey = {**SMALL, **options}
    images = np.repeat(IMAGES, 3, axis=-1)
    for channels, fits in ((1, False), (3, True)):
        other = build_model(ModelConfig.from_dict({**grey, "channels": channels}))
        config = TrainConfig(neighbours=2, heads=2, sub_clusters=1)
        mine = new_trainer(
            build_model(ModelConfig.from_dict({**grey, "channels": 3})), images, config
        )
        start_from(mine, other)
        assert mine.has_codebook is fits and mine.state()[1]["has_codebook"] is fits


def test_a_model_of_which_nothing_fits_is_refused() -> None:
    sizes = {"hidden_dims": 17, "latent_dims": 3, "image_size": (9, 9)}
    other = build_model(ModelConfig.from_dict({**SMALL, **sizes, "model": "vae"}))
    mine = build_model(ModelConfig.from_dict({**SMALL, "model": "vae"}))
    with pytest.raises(InputError, match="no array of the --init model fits this model"):
        start_from(new_trainer(mine, IMAGES, TrainConfig(pair_weight=0.0)), other)


@pytest.mark.usefixtures("few_digits")
def test_a_run_has_the_sizes_of_what_it_starts_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(tmp_path / "m.npz", build_model(ModelConfig.from_dict({**SMALL, "K": 4})))
    options = f"--dataset digits --init {tmp_path}/m.npz --epochs 1 --batchsize 256 --heads 2"
    options += f" --outdir {tmp_path}/run"
    assert train.main(options.split()) == 0
    out = capsys.readouterr().out
    number = len(build_model(ModelConfig.from_dict({**SMALL, "K": 4})).arrays())
    assert f"{number} of {number} arrays of the model copied" in out
    card = (tmp_path / "run/README.md").read_text()
    assert " --init m.npz" in card
    assert (
        f"| started from | m.npz, crc32 {zlib.crc32((tmp_path / 'm.npz').read_bytes()):08x} |"
        in card
    )
    assert train.main(["--resume", f"{tmp_path}/run", "--epochs", "2"]) == 0
    assert (
        json.loads((tmp_path / "run/metrics.json").read_text())["made_with"]["init"]["name"]
        == "m.npz"
    )
    assert train.main(["--resume", f"{tmp_path}/run", "--init", f"{tmp_path}/m.npz"]) == 2
    assert "--init has no effect with --resume" in capsys.readouterr().err


@pytest.mark.parametrize("init", [{"name": "m.npz"}, {"name": 3, "crc32": "0"}, "m.npz", [1]])
def test_a_record_that_says_nonsense_of_where_it_started_goes_on_without(init: object) -> None:
    dataset = Dataset.of(IMAGES)
    record = provenance.started(dataset, "train.py", {"name": "m.npz", "crc32": "0"}, {"K": "3: a"})
    again = provenance.resumed(record, dataset, "train.py --resume", 1, 0)
    assert again["init"] == record["init"] and again["decided"] == {"K": "3: a"}
    again = provenance.resumed(record | {"init": init}, dataset, "train.py --resume", 1, 0)
    assert "init" not in again and len(again["sessions"]) == 2
    assert "started from" not in provenance.in_words(again)
