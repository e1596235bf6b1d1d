"""The model card of a run: its command repeats the run, its figures are the run's."""

import json
import re
import shlex
from pathlib import Path

import train
from mlx_gmvae.cli import options
from mlx_gmvae.cli.train import parse_arguments
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.runs.checkpoint import load_model

import numpy as np
import pytest


def command_in(card: str) -> list[str]:
    (line,) = re.findall(r"^python train\.py (.+)$", card, flags=re.MULTILINE)
    return shlex.split(line)


def test_its_command_and_figures_are_those_of_the_run(digits_run: Path) -> None:
    card = (digits_run / "README.md").read_text()
    args = parse_arguments(command_in(card))
    found = load_model(digits_run / "model.npz")
    assert args.dataset == "digits" and args.image_size == [8, 8]
    model = options.given_fields(ModelConfig, args)
    assert ModelConfig.from_dict(model | {"image_size": (8, 8)}) == found.model.config
    training = TrainConfig.from_dict(options.given_fields(TrainConfig, args))
    assert training.to_dict() == found.training
    rows = dict(re.findall(r"^\| (\w+: \w+) \| (\S+) \|$", card, flags=re.MULTILINE))
    metrics = json.loads((digits_run / "metrics.json").read_text())
    assert float(rows["clustering: accuracy"]) == round(metrics["clustering"]["accuracy"], 5)
    tables = re.findall(r"^On (.+):\n\n((?:\|.*\n)+)", card, flags=re.MULTILINE)
    sets = {name: text for text, table in tables for name in re.findall(r"\| (\w+): ", table)}
    assert sets["pairs"] == "training images"
    assert sets["test_pairs"] == sets["generative"] == sets["clustering"] == "held-out images"
    for name in ("pairs", "test_pairs"):
        assert float(rows[f"{name}: pair_loss"]) == pytest.approx(metrics[name]["pair_loss"], 1e-3)
    for name in re.findall(r"!\[.+\]\((.+)\)", card):
        assert (digits_run / name).is_file()


def test_it_keeps_paths_to_itself(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "pictures.npz", images=images)
    options = f"--dataset {tmp_path}/pictures.npz --model vae --arch mlp --hidden_dims 8 --epochs 1"
    assert train.main([*options.split(), "--outdir", str(tmp_path / "run")]) == 0
    card = (tmp_path / "run/README.md").read_text()
    assert str(tmp_path) not in card
    assert command_in(card)[:2] == ["--dataset", "pictures.npz"]
    assert "# run\n" in card and "32 images of pictures.npz for 1 epochs" in card
