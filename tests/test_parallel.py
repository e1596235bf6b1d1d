"""Streams side by side: the numbers of one after the other, on streams of their own."""

from mlx_gmvae.device import parallel
from mlx_gmvae.training.optimizer import Adam

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten


@pytest.fixture(params=[1, 2, 5])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(parallel, "on_cpu", lambda: True)
    monkeypatch.setattr(parallel, "cores", lambda: request.param)
    return int(request.param)


def test_functions_share_the_streams(cores: int) -> None:
    def streams() -> list[mx.Stream]:
        return list(parallel.streams_to_use())

    everything = streams()
    assert len(everything) == cores
    halves = parallel.side_by_side(streams, streams)
    if cores == 1:
        assert halves == [everything, everything]
    else:
        assert sorted(len(half) for half in halves) == [cores // 2, cores - cores // 2]
        assert not any(stream in halves[1] for stream in halves[0])
    assert streams() == everything


def test_answers_and_gradients_are_those_of_one_after_the_other(cores: int) -> None:
    x = mx.random.normal((40, 6))
    weight = mx.random.normal((6, 3))

    def squares(weight: mx.array) -> mx.array:
        return (parallel.over_batch(lambda part: part @ weight, x) ** 2).sum()

    def cubes(weight: mx.array) -> mx.array:
        return (parallel.over_batch(lambda part: mx.tanh(part @ weight), x) ** 3).sum()

    def together(weight: mx.array) -> mx.array:
        first, second = parallel.side_by_side(lambda: squares(weight), lambda: cubes(weight))
        return first + 2 * second

    expected = mx.grad(
        lambda weight: ((x @ weight) ** 2).sum() + 2 * (mx.tanh(x @ weight) ** 3).sum()
    )(weight)
    for gradient in (mx.grad(together), mx.compile(mx.grad(together))):
        np.testing.assert_allclose(gradient(weight), expected, rtol=1e-4, atol=1e-4)


def test_adam_is_mlxs(cores: int) -> None:
    mx.random.seed(0)
    ours = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2))
    mlxs = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2))
    mlxs.update(ours.parameters())
    x = mx.random.normal((9, 5))
    for model, optimizer in (
        (ours, Adam(1e-2)),
        (mlxs, optim.Adam(learning_rate=1e-2, bias_correction=True)),
    ):
        gradient = nn.value_and_grad(model, lambda model: (model(x) ** 2).sum())
        for _ in range(3):
            optimizer.update(model, gradient(model)[1])
            mx.eval(model.parameters(), optimizer.state)
    values, others = (dict(tree_flatten(model.parameters())) for model in (ours, mlxs))
    assert values.keys() == others.keys()
    for name, value in values.items():
        np.testing.assert_allclose(value, others[name], rtol=1e-6, err_msg=name)
