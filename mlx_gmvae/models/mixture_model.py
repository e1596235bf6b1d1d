"""Base class of models with components: q(y|x), its features, and samples of a component."""

from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from ..config import ModelConfig
from ..config.record import is_whole
from ..errors import InputError
from ..inputs import Inputs, WithFeatures, pixels_of
from .base import LatentVariableModel

TRIES = 5  # draws of an image until q(y|x) assigns it to its component


class MixtureModel(LatentVariableModel):
    """Base class of models whose prior over z is a mixture of K components."""

    options: ClassVar[tuple[str, ...]] = ("K",)

    @classmethod
    def classifies(cls, config: ModelConfig) -> bool:
        """Return whether a network, `classifier`, computes q(y|x), instead of Bayes' rule at z.

        Parameters
        ----------
        config : ModelConfig
            Configuration of a model of this class.

        Returns
        -------
        bool
            Whether the model has a classifier.
        """
        return False

    @property
    def has_classifier(self) -> bool:
        """Whether a network, `classifier`, computes q(y|x)."""
        return self.classifies(self.config)

    @property
    def sees_features(self) -> bool:
        """Whether q(y|x) sees features of a frozen encoder instead of pixels."""
        return self.has_classifier and self.config.classifier == "features"

    def classifier_inputs(self, x: Inputs) -> mx.array:
        """Return the input of the classifier: pixels, or features of a frozen encoder.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].

        Returns
        -------
        mx.array of shape (B, H, W, C) or (B, F)
            Pixels or features.

        Raises
        ------
        ValueError
            If features are needed and `x` has none.
        """
        if not self.sees_features:
            return pixels_of(x)
        if not isinstance(x, WithFeatures):
            raise ValueError("q(y|x) of this model needs the features of the images beside them")
        return x.features

    def classifier_features(self, x: Inputs) -> mx.array:
        """Return the input of the last layer of the classifier.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].

        Returns
        -------
        mx.array of shape (B, 128)
            Features.
        """
        return self.classifier.features(self.classifier_inputs(x))  # type: ignore[no-any-return]

    def log_cluster_probabilities(self, x: Inputs) -> mx.array:
        """Return log q(y|x), at the means of the other latent variables.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].

        Returns
        -------
        mx.array of shape (B, K)
            Logarithms of the cluster probabilities. They are deterministic.
        """
        return self.log_probabilities_of(self.classifier_inputs(x))

    def log_probabilities_of(self, seen: mx.array) -> mx.array:
        """Return log q(y|x) for the output of `classifier_inputs`.

        Parameters
        ----------
        seen : mx.array of shape (B, H, W, C) or (B, F)
            Pixels or features.

        Returns
        -------
        mx.array of shape (B, K)
            Logarithms of the cluster probabilities.
        """
        raise NotImplementedError

    def given_clusters(self, q: Any) -> Any:
        """Return a posterior through whose q(y|x) no gradient flows.

        Parameters
        ----------
        q : posterior
            Posterior of a batch.

        Returns
        -------
        posterior
            The same, for a bound that is not to train q(y|x).
        """
        raise NotImplementedError

    def responsibilities(self, x: Inputs) -> mx.array:
        """Return the cluster probabilities q(y|x) of images.

        Parameters
        ----------
        x : mx.array of shape (B, H, W, C), or WithFeatures
            Images, floats in [0, 1].

        Returns
        -------
        mx.array of shape (B, K)
            Probabilities; each row sums to 1.

        Raises
        ------
        InputError
            If the images cannot be used.
        """
        self.require_images(x)
        return mx.exp(self.log_cluster_probabilities(x))

    def sample(self, num: int, component: int | None = None) -> mx.array:
        """Draw images from the prior, or from one component of it.

        An image drawn from a component that q(y|x) assigns to another one is drawn again, with up
        to 5 draws in all (rejection sampling of p(x|y)): components overlap, and p(x|z) has seams
        between clusters. If q(y|x) sees features, there is no such test, since drawn images
        have none.

        Parameters
        ----------
        num : int
            Number of images.
        component : int, optional
            Component of a mixture to draw from; by default the whole prior.

        Returns
        -------
        mx.array of shape (num, H, W, C)
            Expected pixels, in [0, 1].

        Raises
        ------
        InputError
            If there is no such component, or `num` is not a number of samples.
        """
        images = super().sample(num, component)
        if component is None or self.sees_features:
            return images
        for _ in range(TRIES - 1):
            is_right = self.responsibilities(images).argmax(axis=1) == component
            if is_right.all():
                break
            images = mx.where(is_right[:, None, None, None], images, super().sample(num, component))
        return images

    def require_drawable(self, num: int, component: int | None = None) -> None:
        super().require_drawable(num)
        is_one = component is None or (is_whole(component) and 0 <= component < self.config.K)
        if not is_one:
            raise InputError(f"component is {component!r}; choose 0 to {self.config.K - 1}")

    def permute_components(self, order: np.ndarray) -> None:
        """Renumber the components: component order[y] becomes component y.

        Parameters
        ----------
        order : ndarray of shape (K,)
            Permutation of the component numbers.
        """
        raise NotImplementedError

    def refit(self, latents: np.ndarray, seed: int) -> None:
        """Fit the mixture to latents, in models that refit it during the training.

        Parameters
        ----------
        latents : ndarray of shape (N, D)
            Latents of the training images.
        seed : int
            Seed of the fit.
        """
        raise NotImplementedError

    def component_latents(self) -> mx.array:
        """Return the centre of each component in latent space.

        Returns
        -------
        mx.array of shape (K, D)
            Latents z.
        """
        raise NotImplementedError
