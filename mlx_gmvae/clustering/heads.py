"""Heads: last layers on one classifier, trained side by side, of which the best one is used.

Whether a clustering of a small set ends with two classes merged depends on the random start
of the last layer. Twenty of them cost next to nothing, and the pair loss, which knows no labels,
tells which start was lucky. Ji et al. 2019 (IIC, arXiv:1807.06653) train several heads and choose
by the loss likewise.
"""

import mlx.core as mx
import mlx.nn as nn

DECAY = 0.99  # of the running losses, per step
UNREACHABLE = 1e9  # nats
MARGIN = 0.01  # nats; far below what a merged class costs, far above what heads that agree differ


class Heads(nn.Module):
    """`num` copies of a linear layer, each with a start of its own.

    `running_loss` (num,) follows the loss of each head, and `chosen` is the head in use. It changes
    only for one better by `margin`, and not at all after `freeze_choice`, so that what is built on
    the clusters has time to learn which is which.
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
        """Outputs of every head: (B, inputs) -> (B, num, outputs)."""
        num, outputs, inputs = self.weight.shape
        flat = features @ self.weight.reshape(-1, inputs).T + self.bias.flatten()
        return flat.reshape(-1, num, outputs)

    def record(self, losses: mx.array) -> None:
        """Take in the losses (num,) of one step."""
        self.follow(losses)
        self.choose()

    def follow(self, losses: mx.array) -> None:
        """`record` without a choice, which is for later where other processes follow theirs."""
        losses = mx.stop_gradient(losses)
        self.running_loss = DECAY * self.running_loss + (1 - DECAY) * losses

    def choose(self) -> None:
        """Change to the best head if it is better by `margin`."""
        best = self.running_loss.argmin()
        gain = self.running_loss[self.chosen] - self.running_loss.min()
        self.chosen = mx.where(gain > self.margin, best.astype(self.chosen.dtype), self.chosen)

    def freeze_choice(self) -> None:
        """Keep the head in use from now on."""
        self.margin = mx.array(UNREACHABLE)

    def require_choice(self) -> None:
        """Raise ValueError unless the head in use is one of them: MLX looks anywhere."""
        chosen = int(self.chosen.item())  # type: ignore[arg-type, unused-ignore]
        if not 0 <= chosen < len(self.weight):
            raise ValueError(f"there is no head {chosen}")

    def copy_to(self, layer: nn.Linear) -> None:
        """Give `layer` the weights of the chosen head."""
        layer.update({"weight": self.weight[self.chosen], "bias": self.bias[self.chosen]})
