"""Learning rate, KL weight and held-out rows as functions of the epochs done."""

from mlx_gmvae.clustering.phases import (
    balance_weight,
    distillation_window,
    is_time_to_freeze,
    is_time_to_merge,
    is_time_to_recompute,
)
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.errors import InputError
from mlx_gmvae.training.defaults import for_model
from mlx_gmvae.training.division import divide
from mlx_gmvae.training.schedule import kl_weight, learning_rate

import pytest


def test_cosine_learning_rate_falls_to_zero() -> None:
    config = TrainConfig(epochs=2, lr=0.1)
    assert [learning_rate(config, done) for done in (0, 1)] == pytest.approx([0.1, 0.05])
    assert learning_rate(config, 1.999) == pytest.approx(0, abs=1e-6)
    assert learning_rate(TrainConfig(lr=0.1, lr_schedule="constant"), 5) == 0.1


def test_the_learning_rate_starts_again_after_each_refit() -> None:
    config = TrainConfig(epochs=6, lr=0.1, mutual_iterations=2)
    assert config.refits == [2, 4, 6]
    for first in (0, 2, 4):
        assert learning_rate(config, first) == pytest.approx(0.1)
        assert learning_rate(config, first + 1) == pytest.approx(0.05)
        assert learning_rate(config, first + 1.999) < 1e-6


def test_kl_annealing_rises_linearly() -> None:
    config = TrainConfig(kl_anneal=2, kl_weight=0.5)
    assert [kl_weight(config, done) for done in (0, 1, 2, 3)] == pytest.approx([0, 0.25, 0.5, 0.5])
    assert kl_weight(TrainConfig(), 0) == 1
    staged = TrainConfig(pretrain_epochs=3, kl_anneal=2)
    assert [kl_weight(staged, done) for done in (0, 2.9, 3, 4, 5, 6)] == [0, 0, 0, 0.5, 1, 1]


def test_free_sizes_are_spread_first_and_then_left_to_mutual_information() -> None:
    free = TrainConfig(epochs=8, balance="free", pair_balance=3)
    assert [balance_weight(free, done) for done in (0, 1, 2, 5)] == pytest.approx(
        [3, 1.9, 0.8, 0.8]
    )
    assert balance_weight(TrainConfig(epochs=8, pair_balance=3), 5) == 3
    assert balance_weight(TrainConfig(epochs=8, balance="0.5,0.5", pair_balance=3), 5) == 3


def test_phases_begin_after_the_epochs_that_their_shares_say() -> None:
    """Of ten epochs: a merge after the fourth, the last choice of a head after the sixth."""
    config = TrainConfig(epochs=10)
    assert [is_time_to_merge(config, done) for done in (3, 4, 9)] == [False, True, True]
    assert [is_time_to_freeze(config, done) for done in (5, 6, 9)] == [False, True, True]
    assert [done for done in range(11) if is_time_to_recompute(config, done)] == [4, 6]
    assert [done for done in range(8) if is_time_to_recompute(TrainConfig(epochs=7), done)] == [
        3,
        5,
    ]
    assert distillation_window(config, 4) == (4, 6)


def test_rows_are_held_out_only_for_early_stopping() -> None:
    rows, held_out = divide(100, TrainConfig())
    assert (len(rows), len(held_out)) == (100, 0)
    rows, held_out = divide(100, TrainConfig(early_stopping=3, seed=1))
    assert sorted([*rows, *held_out]) == list(range(100))
    assert len(held_out) == 10
    assert len(divide(200_000, TrainConfig(early_stopping=3))[1]) == 5000
    with pytest.raises(InputError, match="too few"):
        divide(9, TrainConfig(early_stopping=1))


def test_stages_by_default() -> None:
    vade = for_model(TrainConfig(epochs=9), ModelConfig(model="vade"), set())
    assert vade.refits == [3]
    mutual = for_model(TrainConfig(epochs=10), ModelConfig(model="vae-gmm"), set())
    assert mutual.refits == [2, 4, 6, 8, 10]
    assert for_model(TrainConfig(), ModelConfig(), set()).refits == []
    assert for_model(TrainConfig(epochs=2), ModelConfig(model="vade"), set()).refits == [1]
    for model, values, message in [
        ("vae-gmm", {"epochs": 10, "mutual_iterations": 10}, "mutual_iterations is 10"),
        ("vade", {"epochs": 10, "pretrain_epochs": 10}, "pretrain_epochs is 10"),
        ("vade", {"epochs": 10, "pretrain_epochs": 0}, "pretrain_epochs is 0"),
        ("vade", {"epochs": 1}, "at least 2 epochs"),
    ]:
        with pytest.raises(InputError, match=message):
            for_model(TrainConfig.from_dict(values), ModelConfig(model=model), set())


@pytest.mark.parametrize(
    ("model", "option", "owner"),
    [
        ("gmvae", "mutual_iterations", "vae-gmm"),
        ("vae-gmm", "pretrain_epochs", "vade"),
        ("vae-gmm", "pair_weight", "gmvae, vade"),
        ("vade", "heads", "which has no classifier"),
        ("vade", "balance", "which has no classifier; use uniform"),
        ("vade", "early_stopping", "refits its mixture"),
        ("vae-gmm", "early_stopping", "refits its mixture"),
    ],
)
def test_options_of_other_models_are_refused(model: str, option: str, owner: str) -> None:
    with pytest.raises(InputError, match=f"{option} has no effect with model {model}.*{owner}"):
        for_model(TrainConfig(), ModelConfig(model=model), {option})
