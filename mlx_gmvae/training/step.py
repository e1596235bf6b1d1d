"""The compiled training step: losses, gradients, their averages over processes, the update."""

from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import clip_grad_norm

from ..clustering.pair_objective import Weights
from ..device import distributed
from ..device.backend import choose_fusing
from ..inputs import Batch
from .objective import Loss
from .optimizer import Adam
from .trained import Trained

# (batch, weights of the terms, whether this process is asked to stop) ->
# losses (the total and its terms), the share of the processes that are asked to stop.
Step = Callable[[Batch, Weights, mx.array], tuple[mx.array, mx.array]]


def compile_step(
    trained: Trained,
    loss: Loss,
    optimizer: Adam,
    clip_grad: float | None,
    heads_compete: bool,
) -> tuple[Step, list[Any]]:
    """Return a step of `optimizer` on `loss`, and the trees of arrays that it changes in place.

    The gradients of all processes are averaged, and then clipped to the norm `clip_grad`. While
    heads compete, each step copies the chosen head to the classifier's last layer.
    """
    choose_fusing()
    # The state of the random generator must be captured too, or every step repeats the same noise.
    captured = [trained.state, optimizer.state, mx.random.state]
    loss_and_grad = nn.value_and_grad(trained, loss)

    @partial(mx.compile, inputs=captured, outputs=captured)
    def step(batch: Batch, weights: Weights, stop_requested: mx.array) -> tuple[mx.array, mx.array]:
        (total, terms), grads = loss_and_grad(batch, weights)
        losses = mx.stack([total, *terms.values()])
        if distributed.size() > 1:
            # All in one exchange: the number of exchanges costs more than their size.
            shared = {"gradients": grads, "losses": losses, "stop": stop_requested}
            shared["statistics"] = trained.running_statistics()
            shared = distributed.average(shared)
            grads, losses, stop_requested = (shared[k] for k in ("gradients", "losses", "stop"))
            # Without running statistics the tree is empty, and the exchange does not return it.
            trained.update(shared.get("statistics", {}))
            trained.choose_heads()
        if clip_grad is not None:
            grads, _ = clip_grad_norm(grads, clip_grad)
        optimizer.update(trained, grads)
        if heads_compete:
            trained.use_chosen_head()
        return losses, stop_requested

    return step, captured
