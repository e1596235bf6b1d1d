"""Heads: last layers on one classifier, trained side by side, of which the best one is used.

On a small set it depends on the initial weights of the last layer whether two classes end up in one
cluster. Twenty layers cost almost nothing, and the pair loss, which needs no labels, shows which of
them is best. Ji et al. 2019 (IIC, arXiv:1807.06653) also train several heads and choose by the
loss.
"""

import mlx.core as mx
import mlx.nn as nn

DECAY = 0.99  # of the running losses, per step
UNREACHABLE = 1e9  # nats
MARGIN = 0.01  # nats; far below the cost of merged classes, far above differences by chance


class Heads(nn.Module):
    """`num` copies of a linear layer, each with its own initial weights.

    `running_loss` (num,) is the moving average of each head's loss, and `chosen` is the head in
    use. It changes only to a head that is better by `margin`, and not at all after `freeze_choice`,
    so that prior and decoder have time to learn the numbers of its clusters.
    """

    def __init__(self, layer: nn.Linear, num: int):
        super().__init__()
        outputs, inputs = layer.weight.shape
        limit = inputs**-0.5
        self.weight = mx.random.uniform(-limit, limit, (num, outputs, inputs))
        self.bias = mx.zeros((num, outputs))
        self.running_loss = mx.zeros((num,))
        self.chosen = mx.array(0)
        self.margin = mx.array(MARGIN)
        self.freeze(keys=["running_loss", "chosen", "margin"], recurse=False)

    def __call__(self, features: mx.array) -> mx.array:
        """Return the outputs of every head: (B, inputs) -> (B, num, outputs)."""
        num, outputs, inputs = self.weight.shape
        flat = features @ self.weight.reshape(-1, inputs).T + self.bias.flatten()
        return flat.reshape(-1, num, outputs)

    def record(self, losses: mx.array) -> None:
        """Record the losses (num,) of one step, and choose a head."""
        self.follow(losses)
        self.choose()

    def follow(self, losses: mx.array) -> None:
        """Record losses without a choice, which several processes make later, together."""
        losses = mx.stop_gradient(losses)
        self.running_loss = DECAY * self.running_loss + (1 - DECAY) * losses

    def choose(self) -> None:
        """Change to the best head if it is better by `margin`."""
        best = self.running_loss.argmin()
        gain = self.running_loss[self.chosen] - self.running_loss.min()
        self.chosen = mx.where(gain > self.margin, best.astype(self.chosen.dtype), self.chosen)

    def freeze_choice(self) -> None:
        """Keep the chosen head from now on."""
        self.margin = mx.array(UNREACHABLE)

    def require_choice(self) -> None:
        """Raise ValueError unless the chosen head exists: MLX does not check indices."""
        chosen = int(self.chosen.item())  # type: ignore[arg-type, unused-ignore]
        if not 0 <= chosen < len(self.weight):
            raise ValueError(f"there is no head {chosen}")

    def copy_to(self, layer: nn.Linear) -> None:
        """Copy the weights of the chosen head to `layer`."""
        layer.update({"weight": self.weight[self.chosen], "bias": self.bias[self.chosen]})
