"""Defaults of training that depend on the set of images and on the model."""

import math

from ..config import ModelConfig, TrainConfig
from ..config.record import require_range
from ..config.training import PAIR_OPTIONS
from ..data.splits import Dataset
from ..errors import InputError
from ..models import MODELS, MixtureModel, kind_of
from . import memory

# Small sets get smaller batches and more epochs, so that there are enough steps. Two limits apply:
# after MOST_PASSES over the same few images nothing more is learned, and MOST_PIXELS take about ten
# minutes on two cores.
FEWEST_STEPS_PER_EPOCH = 20
FEWEST_STEPS, FEWEST_SMALL_STEPS = 1600, 3200  # with the configured batch size, and with less
COARSE_SIDE = 16  # pixels; images below it are learned in FEWEST_STEPS with any batch size
SMALLEST_BATCH = 32
MOST_PASSES = 500
MOST_PIXELS = 1 << 30
FEWEST_NEIGHBOURS = 5


def for_set_size(
    config: TrainConfig, train: Dataset, given: set[str]
) -> tuple[TrainConfig, dict[str, str]]:
    """Return `config` with batch size, epochs and neighbours for the set, and the reasons.

    Fields in `given` are not changed. Epochs are never fewer than the configuration's own default.
    """
    values, num_images = config.to_dict(), len(train)
    reasons = {}
    if "batchsize" not in given:
        largest = max(SMALLEST_BATCH, num_images // FEWEST_STEPS_PER_EPOCH)
        fitting = memory.fitting_batch(train.image_shape[:2])
        values["batchsize"] = min(config.batchsize, 2 ** int(math.log2(largest)), fitting)
        if values["batchsize"] != config.batchsize:
            why = f"{num_images:,} images, at least {FEWEST_STEPS_PER_EPOCH} steps an epoch"
            if values["batchsize"] == fitting:
                why = "larger batches of such images take too much memory"
            reasons["batchsize"] = f"{values['batchsize']}: {why}"
    if "epochs" not in given:
        steps_per_epoch = max(1, num_images // values["batchsize"])
        pixels_per_epoch = num_images * math.prod(train.image_shape[:2])
        is_coarse = min(train.image_shape[:2]) < COARSE_SIDE
        is_long = values["batchsize"] < config.batchsize and not is_coarse
        steps = FEWEST_SMALL_STEPS if is_long else FEWEST_STEPS
        wanted = math.ceil(steps / steps_per_epoch)
        affordable = min(MOST_PASSES, MOST_PIXELS // pixels_per_epoch)
        values["epochs"] = max(config.epochs, min(wanted, affordable))
        if values["epochs"] != config.epochs:
            why = f"of {steps_per_epoch} steps, {steps:,} in all"
            if wanted > affordable:
                why = f"of {steps_per_epoch} steps, as many as time allows"
            reasons["epochs"] = f"{values['epochs']}: {why}"
    if "neighbours" not in given:  # of few images, the tenth is often of another class
        fitting_neighbours = max(FEWEST_NEIGHBOURS, round(math.sqrt(num_images) / 3))
        values["neighbours"] = min(config.neighbours, fitting_neighbours)
        if values["neighbours"] != config.neighbours:
            few = values["neighbours"]
            reasons["neighbours"] = f"{few}: a third of the square root of {num_images:,} images"
    return TrainConfig.from_dict(values), reasons


def for_model(config: TrainConfig, model: ModelConfig, given: set[str]) -> TrainConfig:
    """Return `config` as it applies to `model`, with the defaults that depend on the model.

    Raises InputError if an option in `given` would have no effect.
    """
    values, kind = config.to_dict(), kind_of(model)
    useless: list[tuple[set[str], str]] = []
    for owner, other in MODELS.items():
        if other.refit_option and other.refit_option != kind.refit_option:
            useless.append(({other.refit_option}, f"model {model.model}; it is for {owner}"))
            values[other.refit_option] = None
    if kind.refit_option:
        useless.append(({"early_stopping"}, f"model {model.model}, which refits its mixture"))
        values["early_stopping"] = None
    if kind.refit_option == "pretrain_epochs":
        if config.epochs < 2:
            raise InputError(
                f"epochs is {config.epochs}; {model.model} needs at least 2 epochs: one before its "
                "mixture is fitted"
            )
        if config.pretrain_epochs is None:
            values["pretrain_epochs"] = max(1, config.epochs // 3)
        require_range("pretrain_epochs", values["pretrain_epochs"], 1, config.epochs - 1)
    if kind.refit_option == "mutual_iterations":
        if config.mutual_iterations is None:
            values["mutual_iterations"] = min(4, config.epochs - 1)
        require_range("mutual_iterations", values["mutual_iterations"], 0, config.epochs - 1)
    if not kind.trained_by_pairs:
        paired = [name for name, other in MODELS.items() if other.trained_by_pairs]
        why = f"model {model.model}; it is for {', '.join(paired)}"
        useless.append(({"pair_weight", *PAIR_OPTIONS}, why))
        values["pair_weight"] = 0.0
    elif config.pair_weight == 0:
        useless.append((set(PAIR_OPTIONS), "pair_weight 0"))
    elif not (issubclass(kind, MixtureModel) and kind.classifies(model)):
        why = "posterior bayes" if "posterior" in kind.options else f"model {model.model}"
        useless.append(
            ({"heads", "sub_clusters", "sample_weight"}, f"{why}, which has no classifier")
        )
        values |= {"heads": 1, "sample_weight": 0.0}
        if config.balance == "auto":
            useless.append(({"balance"}, f"{why}, which has no classifier; use uniform"))
            values["balance"] = "uniform"
    elif model.classifier == "features":
        why = "features, which q(y|x) sees instead of pixels"
        of_pixels = {"pair_weight", "sample_weight", "augment", "balance", "pair_balance"}
        of_pixels |= {"sub_clusters"}
        useless.append((of_pixels, why))
        values |= {"sample_weight": 0.0, "augment": "none", "balance": "uniform"}
    elif config.balance != "auto":
        why = f"balance {config.balance}, which has no sub-clusters"
        useless.append(({"sub_clusters"}, why))
    if config.pair_balance == 0 and config.balance != "free":
        useless.append(({"balance"}, "pair_balance 0, which gives the balance no weight"))
    if config.neighbours == 0:
        useless.append(({"descriptor", "features"}, "neighbours 0"))
    if config.features:
        useless.append(({"descriptor"}, "features, which replace the descriptor"))
    for names, why in useless:
        for name in sorted(names & given):
            raise InputError(f"{name} has no effect with {why}")
    return TrainConfig.from_dict(values)
