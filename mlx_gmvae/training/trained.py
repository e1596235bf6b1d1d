"""All parameters that one training step changes, as one module."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.optimizers import Optimizer
from mlx.utils import tree_flatten, tree_unflatten

from ..clustering.heads import Heads
from ..clustering.sub_clusters import SubClusters
from ..models.base import LatentVariableModel


class Trained(nn.Module):
    """Everything that is trained: the model, the competing heads and the over-clustering head."""

    def __init__(
        self, model: LatentVariableModel, heads: Heads | None, sub_clusters: SubClusters | None
    ):
        super().__init__()
        self.model = model
        if heads is not None:
            self.heads = heads
        if sub_clusters is not None:
            self.sub_clusters = sub_clusters

    def running_statistics(self) -> dict[str, Any]:
        """Return the float arrays that steps change without gradients, as a tree."""
        learned = dict(tree_flatten(self.trainable_parameters()))
        everything: Any = tree_flatten(self.parameters())
        names = {name for name, value in everything if value.dtype == mx.float32} - set(learned)
        return dict(tree_unflatten([(k, v) for k, v in everything if k in names]))

    def choose_heads(self) -> None:
        """Choose heads by their running losses, after these were averaged over all processes."""
        for name in ("heads", "sub_clusters"):
            if name in self:
                self[name].choose()

    def give_moments(self, optimizer: Optimizer) -> None:
        """Copy Adam's moments of the chosen head to the classifier's last layer.

        While heads compete, that layer has no gradients and so no moments. Its first updates would
        be several times the learning rate, since bias correction has ended long before. The moments
        are scaled: the mean over heads was minimised, so each head had only a share of the gradient
        of its own loss, while the layer has the whole gradient from now on.
        """
        if "heads" in self:
            own: Any = optimizer.state["model"]["classifier"]["out"]
            for name, moments in optimizer.state["heads"].items():
                num, chosen = len(moments["m"]), self.heads.chosen
                own[name] = {"m": num * moments["m"][chosen], "v": num**2 * moments["v"][chosen]}

    def use_chosen_head(self) -> None:
        """Copy the chosen head to the last layer of the model's classifier."""
        if "heads" in self:
            self.heads.copy_to(self.model.classifier.out)
