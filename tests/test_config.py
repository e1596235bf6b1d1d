"""Configurations: JSON round trip, and every value that cannot be used is named."""

import json
from typing import Any

from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.errors import InputError
from mlx_gmvae.models import build_model, effective_options, require_effect

import numpy as np
import pytest


@pytest.mark.parametrize(
    "config", [ModelConfig(), ModelConfig(image_size=(5, 9), num_layers=2), TrainConfig()]
)
def test_json_round_trip(config: ModelConfig | TrainConfig) -> None:
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"arch": "rnn"}, "choose one of conv, mlp"),
        ({"likelihood": "poisson"}, "choose one of bernoulli"),
        ({"posterior": "none"}, "choose one of amortised"),
        ({"K": 0}, "K is 0"),
        ({"K": 2.5}, "whole number"),
        ({"K": True}, "whole number"),
        ({"latent_dims": 0}, "latent_dims is 0"),
        ({"latent_dims": -3}, "latent_dims is -3"),
        ({"w_dims": 10**9}, "w_dims is 1000000000"),
        ({"image_size": [28]}, "2 whole numbers"),
        ({"image_size": [28, 0]}, "image_size is 0"),
        ({"image_size": "28x28"}, "2 whole numbers"),
        ({"sigma": 0.0}, "sigma is 0"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"sigma": 10**400}, r"sigma is 10+\.\.\.0+; it must be a number"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"mc_samples": 0}, "mc_samples is 0"),
        ({"arch": None}, "text"),
        ({"nonsense": 1}, "no field nonsense"),
    ],
)
def test_wrong_model_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batchsize": 0}, "batchsize is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"lr": -0.1}, "lr is -0.1"),
        ({"lr": "fast"}, "a number"),
        ({"clip_grad": 0}, "clip_grad is 0"),
        ({"kl_weight": -1}, "kl_weight is -1"),
        ({"recon_weight": float("inf")}, "recon_weight is inf"),
        ({"kl_anneal": -1}, "kl_anneal is -1"),
    ],
)
def test_wrong_training_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig.from_dict(values)


def test_numbers_may_be_numpys_own() -> None:
    of_model: dict[str, Any] = {"K": np.int64(4), "sigma": np.float32(0.5)}
    of_training: dict[str, Any] = {
        "epochs": np.int32(2),
        "lr": np.float64(0.1),
        "heads": np.uint8(3),
    }
    model = ModelConfig.from_dict(of_model | {"image_size": np.array([8, 9])})
    training = TrainConfig.from_dict(of_training)
    for config, plain in (
        (model, ModelConfig(K=4, sigma=0.5, image_size=(8, 9))),
        (training, TrainConfig(epochs=2, lr=0.1, heads=3)),
    ):
        assert config == plain
        assert json.dumps(config.to_dict()) == json.dumps(plain.to_dict())
    for value in (np.True_, np.float64(3), np.array([3])):
        with pytest.raises(InputError, match=r"K is .*; it must be a whole number"):
            ModelConfig.from_dict({"K": value})


def test_a_field_that_is_misspelt_is_said() -> None:
    with pytest.raises(InputError, match=r"no field latent_dim; did you mean latent_dims\?"):
        ModelConfig.from_dict({"latent_dim": 3})


def test_options_without_effect_are_refused_and_not_shown() -> None:
    vae = ModelConfig(model="vae", arch="mlp")
    for name in ("K", "w_dims", "posterior", "max_filters", "sigma"):
        assert name not in effective_options(vae)
        with pytest.raises(InputError, match=f"{name} has no effect"):
            require_effect(vae, name)
    require_effect(vae, "hidden_dims")
    require_effect(ModelConfig(classifier="patches"), "hidden_dims")
    with pytest.raises(InputError, match="arch conv; it is for mlp, or classifier patches"):
        require_effect(ModelConfig(), "hidden_dims")
    assert effective_options(vae)["num_layers"] == 2


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="model is 'gan'; choose one of vae, gmvae"):
        build_model(ModelConfig(model="gan"))


def test_a_configuration_is_an_object() -> None:
    with pytest.raises(InputError, match="JSON object"):
        ModelConfig.from_dict(json.loads("[1, 2]"))
