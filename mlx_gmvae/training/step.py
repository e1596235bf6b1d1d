"""One step of training, compiled: losses, gradients, what processes share, and the update."""

from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import clip_grad_norm

from ..device import distributed
from ..device.backend import choose_fusing
from ..inputs import Batch
from .loss import Objective
from .optimizer import Adam
from .schedule import Weights
from .trained import Trained

# (images, partners, weights of the terms, wish to stop) ->
# losses (the total and its terms), the share of all processes that wish to stop.
Step = Callable[[Batch, mx.array | None, Weights, mx.array], tuple[mx.array, mx.array]]


def compile_step(
    trained: Trained, objective: Objective, optimizer: Adam, clip_grad: float | None
) -> tuple[Step, list[Any]]:
    """A step of `optimizer` on `objective`, and the trees of arrays that it changes in place.

    The gradients of all processes are averaged, and then clipped to the norm `clip_grad`.
    """
    choose_fusing()
    # The generator's state must be captured too, or every step repeats the first's noise.
    captured = [trained.state, optimizer.state, mx.random.state]
    loss_and_grad = nn.value_and_grad(trained, objective.losses)

    @partial(mx.compile, inputs=captured, outputs=captured)
    def step(
        x: Batch, partners: mx.array | None, weights: Weights, wish: mx.array
    ) -> tuple[mx.array, mx.array]:
        (loss, terms), grads = loss_and_grad(x, partners, weights)
        losses = mx.stack([loss, *terms.values()])
        if distributed.size() > 1:
            # All in one exchange, whose price is rather its number than its size.
            shared = {"gradients": grads, "losses": losses, "wishes": wish}
            shared["statistics"] = trained.running_statistics()
            shared = distributed.average(shared)
            grads, losses, wish = (shared[k] for k in ("gradients", "losses", "wishes"))
            # A model without any has an empty tree, which no exchange gives back.
            trained.update(shared.get("statistics", {}))
            trained.choose_heads()
        if clip_grad is not None:
            grads, _ = clip_grad_norm(grads, clip_grad)
        optimizer.update(trained, grads)
        if objective.heads_compete:
            trained.use_chosen_head()
        return losses, wish

    return step, captured
