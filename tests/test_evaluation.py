"""A trained model over a whole set: what is measured repeats itself and leaves no trace."""

from mlx_gmvae.config import ModelConfig
from mlx_gmvae.device.randomness import random_key
from mlx_gmvae.evaluation.scores import generative_scores
from mlx_gmvae.models import build_model

import numpy as np
import pytest


@pytest.mark.parametrize("kind", ["vae", "gmvae"])
def test_measuring_leaves_the_random_state_as_it_was(kind: str, small_images: np.ndarray) -> None:
    config = ModelConfig(model=kind, arch="mlp", image_size=(9, 6), channels=3, hidden_dims=8)
    model = build_model(config)
    model.eval()
    before = np.array(random_key())
    scores = generative_scores(model, small_images)
    np.testing.assert_array_equal(np.array(random_key()), before)
    assert generative_scores(model, small_images) == scores
    terms = {"reconstruction", "kl_z"} | ({"kl_w", "kl_y"} if kind == "gmvae" else set())
    assert scores["elbo"] == pytest.approx(-sum(scores[name] for name in terms))
