"""Resolution of every "auto": options and images become one frozen experiment, without labels."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..clustering.augment import suitable
from ..clustering.neighbours import nearest, unit_length
from ..clustering.sub_clusters import num_sub_clusters
from ..config import ModelConfig, TrainConfig
from ..data.images import Examples, Featured, have_features
from ..data.splits import Dataset
from ..data.units import UNIT
from ..device import distributed
from ..errors import InputError
from ..models import MixtureModel, effective_options, kind_of, require_effect
from .defaults import for_model, for_set_size
from .division import divide, training_part
from .select_k import SelectedK, require_selectable, select_k

AUTO = "auto"
SMALLEST_COLOURED = 20  # pixels of the shorter side: patches of smaller images say little
TABLE = {"arch": "mlp", "likelihood": "gaussian", "sigma": UNIT / 2, "hidden_dims": 128}
FEWEST_NEIGHBOURS, MOST_NEIGHBOURS, FEATURE_HEADS = 25, 50, 40  # with a frozen encoder
MOST_TABLE_EPOCHS = 100  # more epochs do not change the clusters


@dataclass(frozen=True)
class Options:
    """The given fields of the two configurations; `K` may be "auto".

    `model` may be the configuration of an existing model. `like` has the fields of a model to start
    from, which become the defaults. `base` is a configuration with final batch size and epochs.
    `is_table` says that the images are the standardised rows of a table.
    """

    model: dict[str, Any] | ModelConfig
    training: dict[str, Any]
    like: dict[str, Any] = field(default_factory=dict)
    base: TrainConfig | None = None
    is_table: bool = False


@dataclass(frozen=True)
class Experiment:
    """The resolved configurations of model and training: nothing is left to decide.

    `graph` are the neighbours of the training images (N, k), if they are known already. `selected`
    is the result of `K auto`. `reasons` has a line for each field that depends on the images.
    """

    model: ModelConfig
    training: TrainConfig
    graph: np.ndarray | None = None
    selected: SelectedK | None = None
    reasons: dict[str, str] = field(default_factory=dict)


def resolve(
    options: Options,
    train: Dataset,
    load_features: Callable[[str], np.ndarray] | None = None,
    say: Callable[[str], Any] | None = None,
) -> Experiment:
    """Return the experiment for `options` and the training images.

    Parameters
    ----------
    options : Options
    train : Dataset
        All training images, including those that early stopping holds out.
    load_features : callable, optional
        Returns the features (N, F) of the images, for the option `features`.
    say : callable, optional
        Called with lines about the search for K.

    Returns
    -------
    Experiment

    Raises
    ------
    InputError
        If an option cannot be used, or has no effect.
    """
    model, reasons = resolve_model(options, train.image_shape)
    given = set(options.training)
    base = options.base.to_dict() if options.base else {}
    if options.is_table:
        base["augment"] = "none"
    training = TrainConfig.from_dict(base | options.training)
    if options.base is None:
        # Rows of a table have few dimensions, so their neighbours are near.
        fixed = {"neighbours"} if options.is_table else set()
        training, sizes = for_set_size(training, train, given | fixed)
        reasons |= sizes
    if options.is_table and "epochs" not in given:
        training = dataclasses.replace(training, epochs=min(training.epochs, MOST_TABLE_EPOCHS))
    training = for_model(training, model, given)
    if model.classifier == "features" and options.base is None and "neighbours" not in given:
        num = len(divide(len(train), training)[0])
        k = max(FEWEST_NEIGHBOURS, min(MOST_NEIGHBOURS, round(math.sqrt(num) / 2)))
        training = dataclasses.replace(training, neighbours=k)
        if "heads" not in given:
            training = dataclasses.replace(training, heads=FEATURE_HEADS)
        reasons["neighbours"] = (
            f"{k}: half the square root of {num:,} images, from {FEWEST_NEIGHBOURS} to 50"
        )
    examples, graph = train.examples, None
    if training.features and load_features is not None:
        features = load_features(training.features)
        if model.classifier == "features":
            model = dataclasses.replace(model, feature_dims=features.shape[1])
            examples = Featured(train.images, features)
        else:
            rows, _ = divide(len(features), training)
            graph = nearest(unit_length(features[rows]), training.neighbours)
    images = training_part(examples, training)
    if options.is_table and training.pair_weight and training.neighbours:
        graph = nearest(np.asarray(images[:]).reshape(len(images), -1), training.neighbours)
    training, more = resolve_pairs(training, model, images)
    reasons |= more
    selected = None
    if isinstance(options.model, dict) and options.model.get("K") == AUTO:
        require_selectable(model, training)
        if distributed.size() > 1:
            raise InputError("--K auto runs in one process; find K there, then give --K to all")
        selected, graph = select_k(model, training, images, graph, say)
        model = dataclasses.replace(model, K=selected.clusters)
        reasons["K"] = selected.describe()
    training, more = resolve_balance(training, model, len(images))
    return Experiment(model, training, graph, selected, reasons | more)


def resolve_model(
    options: Options, image_shape: tuple[int, int, int]
) -> tuple[ModelConfig, dict[str, str]]:
    """Return the model's configuration for images (H, W, C), and the reason for its classifier."""
    if isinstance(options.model, ModelConfig):
        return options.model, {}
    *image_size, channels = image_shape
    given = dict(options.model)
    if given.get("K") == AUTO:
        given["K"] = 2  # any number will do to check the other options
    shape: dict[str, Any] = {"image_size": image_size, "channels": channels}
    if options.training.get("features") and sees_features(given):
        shape["classifier"] = "features"
    like = options.like
    if like.get("model") != given.get("model", like.get("model")):
        like = {}  # another kind of model: only arrays that fit are copied
    if options.is_table:
        like = TABLE
    model = ModelConfig.from_dict(like | given | shape)
    reasons = {}
    is_chosen = "classifier" not in given | shape and (options.is_table or not like)
    if is_chosen and "classifier" in effective_options(model):
        has_colour = channels == 3 and min(image_size) >= SMALLEST_COLOURED
        if has_colour:
            model = dataclasses.replace(model, classifier="patches")
        of = "in colour" if channels == 3 else "grey"
        reasons["classifier"] = (
            f"{model.classifier}: images are {of}, {min(image_size)} pixels at least; patches need "
            f"colour and {SMALLEST_COLOURED}"
        )
    for name in given:
        require_effect(model, name)
    return model, reasons


def resolve_pairs(
    training: TrainConfig, model: ModelConfig, images: Examples
) -> tuple[TrainConfig, dict[str, str]]:
    """Return `training` with the descriptor and augmentation for uint8 images, and why.

    The images have shape (N, H, W, C).
    """
    reasons: dict[str, str] = {}
    if not issubclass(kind_of(model), MixtureModel):
        return training, reasons
    if training.descriptor == AUTO:
        descriptor, of = ("patches", "in colour") if model.channels == 3 else ("hog", "grey")
        training = dataclasses.replace(training, descriptor=descriptor)
        if training.features is None and training.neighbours and not have_features(images):
            reasons["descriptor"] = f"{descriptor}: images are {of}"
    if training.augment == AUTO:
        augment, reason = "none", "features of a frozen encoder are not augmented"
        if not isinstance(images, Featured) and not have_features(images):
            augment, reason = suitable(images)
        training = dataclasses.replace(training, augment=augment)
        reasons["augment"] = f"{augment}: {reason}"
    # Without pairs, only the scores of a clustering use these options.
    return training, reasons if training.pair_weight else {}


def resolve_balance(
    training: TrainConfig, model: ModelConfig, num_images: int
) -> tuple[TrainConfig, dict[str, str]]:
    """Return `training` with a uniform balance if images are too few for sub-clusters, and why."""
    if training.pair_weight and training.balance == AUTO:
        num = num_sub_clusters(model.K, training.sub_clusters, num_images)
        if not num:
            reason = f"uniform: {num_images:,} images and K = {model.K} leave no sub-clusters"
            return dataclasses.replace(training, balance="uniform"), {"balance": reason}
    return training, {}


def resolve_training(
    training: TrainConfig, model: ModelConfig, images: Examples
) -> tuple[TrainConfig, dict[str, str]]:
    """Return `training` resolved for all uint8 images (N, H, W, C) of a set, and why."""
    part = training_part(images, training)
    training, reasons = resolve_pairs(training, model, part)
    training, more = resolve_balance(training, model, len(part))
    return training, reasons | more


def sees_features(given: dict[str, Any]) -> bool:
    """Return whether q(y|x) of a model with these options sees features instead of pixels.

    It does not if the model has no classifier, or if `classifier` is given. Then features are used
    for the neighbours only.
    """
    kind = ModelConfig.from_dict({n: given[n] for n in ("model", "posterior") if n in given})
    is_own = kind_of(kind)
    return (
        issubclass(is_own, MixtureModel) and is_own.classifies(kind) and "classifier" not in given
    )
