"""The training loop: compiled steps, after any of which it can stop and resume.

The order of images depends on (seed, epoch) only. The noise comes from MLX's generator, whose state
is saved. So a resumed run repeats an uninterrupted one bit for bit on the same device.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from ..clustering.frozen import train_on_features
from ..clustering.merge import Merge
from ..clustering.neighbours import (
    learned_graph,
    neighbour_graph,
    recomputes_neighbours,
)
from ..clustering.pair_objective import Terms, Weights
from ..clustering.phases import (
    Merged,
    Phase,
    distillation_window,
    is_time_to_freeze,
    is_time_to_merge,
    is_time_to_recompute,
    phase_of,
)
from ..clustering.prepare import prepare_classifier
from ..clustering.sub_clusters import merge_sub_clusters
from ..config import TrainConfig
from ..config.record import require_choice
from ..data.batches import over_batches
from ..data.images import Featured, features_of
from ..device import distributed, forks
from ..device.async_evaluation import AsyncEvaluation
from ..device.randomness import preserved_random_state, random_key
from ..errors import InputError
from ..formatting import duration
from ..inputs import Batch
from ..models.base import LatentVariableModel
from ..models.mixture_model import MixtureModel
from ..system.progress_bar import progress
from .checks import (
    require_enough_images,
    require_finite_losses,
    require_finite_state,
    require_like,
    require_progress,
    require_resolved,
    required_graph,
)
from .division import divide, training_part
from .earlier_states import from_0_2
from .epoch_batches import BatchReader, epoch_order, split_into_steps
from .objective import Objective
from .optimizer import Adam
from .schedule import learning_rate, step_weights
from .step import Step, compile_step
from .trained import Trained

# A custom loss, a function of the objective, a batch and weights. It replaces that of one phase.
OwnLoss = Callable[[Objective, Batch, Weights], tuple[mx.array, Terms]]
LEARNED_NEIGHBOURS = "neighbours"  # the name of the array in a state
RECENT_EPOCHS = 3  # used to estimate the remaining time


class Trainer:
    """Training of `model` on uint8 images (N, H, W, C), by Adam on the loss of each phase.

    `config` must be resolved (`resolve`), with no "auto" that depends on the images. `losses`
    replace the losses of some phases. `epoch` counts finished epochs, `step` the steps done in the
    current one, and `merged` is the outcome of the merge. `history` has a record per finished
    epoch: means over its batches in nats per example, images per second, and seconds. Invalid
    arguments are refused in the constructor, before time is spent on neighbours.
    """

    def __init__(
        self,
        model: LatentVariableModel,
        images: np.ndarray | Featured,
        config: TrainConfig,
        neighbours: np.ndarray | None = None,
        losses: Mapping[Phase, OwnLoss] | None = None,
    ):
        forks.require_usable()
        self.model = model
        self.images = images
        self.rows, self.validation_rows = divide(len(images), config)
        # Whatever is learned before the first step is learned from these images only.
        self.training_images = training_part(images, config)
        if isinstance(model, MixtureModel):
            require_resolved(config)
        self.config = config
        self.batchsize = min(config.batchsize, len(self.rows))
        require_enough_images(model, len(images), self.batchsize, config)
        # A partial last batch is dropped: it needs a second trace and has a noisier gradient.
        self.steps_per_epoch = len(self.rows) // self.batchsize
        self.objective = Objective(model, self.config, len(self.rows))
        for phase, loss in (losses or {}).items():
            require_choice("phase", phase, self.objective.loss)
            if not callable(loss):
                raise InputError(f"the loss of phase {phase} is {loss!r}; give a function")
            self.objective.loss[phase] = partial(loss, self.objective)
        if neighbours is not None:
            self.neighbours = neighbours
        self.trained = Trained(model, self.objective.heads, self.objective.sub_clusters)
        self.optimizer = Adam(config.lr)
        self.optimizer.init(self.trained.trainable_parameters())
        self.epoch = 0
        self.step = 0
        self.seconds = 0.0
        self.merged: Merged | None = None
        self.learned_neighbours: np.ndarray | None = None  # set when they are recomputed
        self.compiled: dict[Phase, tuple[Step, list[Any]]] = {}  # traced when a phase begins
        self.history: list[dict[str, float]] = []
        self.has_codebook = False  # True if it was copied from another model
        self.term_names = self._term_names()
        self.totals = mx.zeros(1 + len(self.term_names))
        distributed.separate_noise()
        self.random_keys = distributed.random_keys()

    @property
    def needs_neighbours(self) -> bool:
        """Whether training needs neighbours of the training images."""
        return self.objective.pairs is not None or self.objective.clusters_first

    @cached_property
    def neighbours(self) -> np.ndarray | None:
        """Neighbours of each training image among the training images, (len(rows), k).

        They are as given or set, or computed on first use; None without pairs.
        """
        if not self.needs_neighbours:
            return None
        return neighbour_graph(self.training_images, self.config.neighbours, self.config.descriptor)

    @cached_property
    def reader(self) -> BatchReader:
        """The reader of the batch of each step."""
        return BatchReader(self.images)

    @property
    def phase(self) -> Phase:
        """The phase of the current epoch, which decides what loss is minimised."""
        objective = self.objective
        has_sub_clusters = objective.sub_clusters is not None
        return phase_of(objective.pairs is not None, has_sub_clusters, self.merged)

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is finished, or the validation bound has stopped improving."""
        if self.epoch >= self.config.epochs:
            return True
        patience = self.config.early_stopping
        return patience is not None and self.epoch - self.best_epoch >= patience

    @property
    def best_epoch(self) -> int:
        """The number of finished epochs after which the validation loss was lowest."""
        losses = [record.get("validation", math.inf) for record in self.history]
        return 1 + losses.index(min(losses)) if losses else 0

    def run(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        after_step: Callable[[], None] | None = None,
    ) -> Iterator[dict[str, float]]:
        """Train up to `config.epochs`, yielding the record of each finished epoch.

        Ends early, between two steps, once `should_stop` returns True; call `run` again to
        continue. Raises InputError if a term of the loss, or the weights, are no longer finite.
        """
        forks.require_usable()
        if self.epoch == self.step == 0 and not self.has_codebook:
            prepare_classifier(self.model, self.training_images)
            if self.objective.clusters_first and not self._cluster_features(should_stop):
                return
        while not self.is_done:
            if self.step == 0 and is_time_to_recompute(self.config, self.epoch):
                self._recompute_neighbours()
            if self.phase == "overcluster" and is_time_to_merge(self.config, self.epoch):
                self._merge()
            step, captured = self.compiled_step()
            self.trained.train()
            if "heads" in self.trained and is_time_to_freeze(self.config, self.epoch):
                self.trained.heads.freeze_choice()
            rows = self.rows_of_steps()
            evaluations, is_alone = AsyncEvaluation(), distributed.size() == 1
            started = time.perf_counter() - self.seconds
            with progress(
                total=self.steps_per_epoch, initial=self.step,
                desc=f"epoch {self.epoch + 1}/{self.config.epochs}", unit="step",
                postfix=f"{duration(self.seconds_left)} left" if self.history else None,
            ) as bar:  # fmt: skip
                for batch in self.reader.batches(rows):
                    # Arrays: Python floats would retrace the step for every value.
                    rate = learning_rate(self.config, self._epochs_done())
                    self.optimizer.learning_rate = mx.array(rate)
                    weights = step_weights(self.config, self._epochs_done(), self.merged)
                    stop_requested = mx.array(float(not is_alone and should_stop()))
                    losses, stop_requested = step(batch, weights, stop_requested)
                    self.totals = self.totals + losses
                    finished = evaluations.start((stop_requested, self.totals), captured)
                    self.step += 1
                    if finished is not None:
                        require_finite_losses(finished[1], self.term_names, self._when())
                    self.seconds = time.perf_counter() - started
                    bar.update()
                    if after_step is not None:
                        after_step()
                        started = time.perf_counter() - self.seconds  # do not count saving
                    # Requests to stop that other processes got come with their gradients.
                    if should_stop() if is_alone else finished is not None and finished[0].item():
                        evaluations.finish()
                        self.collect_random_keys()
                        return
                evaluations.finish()
                self.seconds = time.perf_counter() - started
            self.collect_random_keys()
            self._finish_epoch()
            yield self.history[-1]

    @property
    def seconds_left(self) -> float:
        """Estimated seconds for the remaining epochs, at most, from the last few epochs."""
        if self.is_done:
            return 0.0
        recent = [record["seconds"] for record in self.history[-RECENT_EPOCHS:]]
        return (self.config.epochs - self.epoch) * statistics.median(recent or [math.nan])

    def _cluster_features(self, should_stop: Callable[[], bool]) -> bool:
        """Train q(y|x) on features before the first step. Return whether it was finished."""
        features = features_of(self.training_images)
        assert features is not None and self.neighbours is not None
        classifier, config = self.model.classifier, self.config
        # If one of several processes stopped here, the others would wait for it.
        stops = should_stop if distributed.size() == 1 else (lambda: False)
        return train_on_features(
            classifier, features, self.neighbours, config.heads, config.seed, stops
        )

    def compiled_step(self) -> tuple[Step, list[Any]]:
        """Return the step of the current phase and the arrays that it changes."""
        phase = self.phase
        if phase not in self.compiled:
            loss, clip_grad = self.objective.loss[phase], self.config.clip_grad
            compete = phase != "distil"  # which trains the classifier's own last layer
            self.compiled[phase] = compile_step(
                self.trained, loss, self.optimizer, clip_grad, compete
            )
        return self.compiled[phase]

    def _term_names(self) -> tuple[str, ...]:
        """Return the names of the terms in the current phase, without a step."""
        self.trained.eval()  # this image must not change the running statistics
        rows = np.arange(1)
        batch = next(self.reader.batches(iter([(rows, rows)])))
        _, terms = self.objective.loss[self.phase](batch, step_weights(self.config, 0))
        return tuple(terms)

    @property
    def graph(self) -> np.ndarray | None:
        """The neighbours (len(rows), k) of which partners are drawn: at first `neighbours`."""
        return self.neighbours if self.learned_neighbours is None else self.learned_neighbours

    def _recompute_neighbours(self) -> None:
        """Recompute the neighbours in the features that q(y|x) has learned so far."""
        pairs, config = self.objective.pairs, self.config
        if pairs is None or not pairs.model.has_classifier:
            return
        if not recomputes_neighbours(config, len(self.rows)):
            return
        self.trained.eval()
        graph = learned_graph(pairs.model, self.training_images, config.neighbours)
        self.learned_neighbours = distributed.broadcast(graph)

    def _merge(self) -> None:
        """Merge the sub-clusters, and begin the phase "distil" or "refine"."""
        sub_clusters = self.objective.sub_clusters
        if sub_clusters is None or self.graph is None:
            return
        assert isinstance(self.model, MixtureModel)
        self.trained.eval()
        merge = merge_sub_clusters(self.model, sub_clusters, self.training_images, self.graph)
        merge = Merge(*map(distributed.broadcast, merge))
        sub_clusters.take(merge)
        self._begin(Merged(merge.outcome, distillation_window(self.config, self.epoch)))
        self.totals = mx.zeros(1 + len(self.term_names))
        if self.phase == "distil":
            self.trained.give_moments(self.optimizer)

    def _begin(self, merged: Merged | None) -> None:
        """Begin the phase after a merge, or the phase of a restored state."""
        self.merged = merged
        if merged is not None and merged.outcome == "agreed" and "heads" in self.trained:
            self.trained.heads.freeze_choice()  # the sub-clusters confirm the chosen head
        with preserved_random_state():
            self.term_names = self._term_names()

    def rows_of_steps(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Return the rows of images and, with pairs, of partners for each remaining step."""
        rng = np.random.default_rng([self.config.seed, self.epoch])
        order, partners = epoch_order(self.rows, self.graph, rng)
        both = (order, partners) if self.objective.pairs else (order,)
        return split_into_steps(both, self.batchsize, range(self.step, self.steps_per_epoch))

    def _epochs_done(self) -> float:
        return self.epoch + self.step / self.steps_per_epoch

    def _finish_epoch(self) -> None:
        require_finite_losses(self.totals, self.term_names, self._when())
        self.require_finite()
        loss, *terms = (float(mean) for mean in np.array(self.totals / self.steps_per_epoch))
        record: dict[str, float] = {"epoch": self.epoch + 1, "loss": loss}
        record |= dict(zip(self.term_names, terms, strict=True))
        record["throughput"] = self.steps_per_epoch * self.batchsize / self.seconds
        record["seconds"] = self.seconds
        self.trained.eval()
        if len(self.validation_rows):
            record["validation"] = self._validation_loss()
        if self.epoch + 1 in self.config.refits and isinstance(self.model, MixtureModel):
            self._refit(self.model)
        # Added only now, so that an epoch whose refit was interrupted is not there twice.
        self.history.append(record)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.totals = mx.zeros_like(self.totals)

    def _refit(self, model: MixtureModel) -> None:
        """Fit the mixture to the latents.

        If gradients train the mixture from now on, Adam restarts, as the learning rate does: the
        mixture has no moments yet, and bias correction uses one step count for all parameters.
        """
        latents = over_batches(lambda x: model.encode(x).mean, self.images)
        model.refit(distributed.broadcast(latents), self.config.seed)
        if tree_flatten(model.mixture.trainable_parameters()):
            self.optimizer.restart()

    def require_finite(self) -> None:
        """Raise InputError if the state has NaN or infinity, as after a step that diverged."""
        require_finite_state(self.state()[0], self._when())

    def _when(self) -> str:
        return f"epoch {self.epoch + 1}, step {self.step} of {self.steps_per_epoch}"

    def _validation_loss(self) -> float:
        """Return the negative ELBO of the held-out images, nats per image, with fixed noise."""
        with preserved_random_state():
            mx.random.seed(self.config.seed)
            bounds = over_batches(self.model.negative_elbo, self.images[self.validation_rows])
        return float(distributed.broadcast(bounds.mean(keepdims=True))[0])

    def collect_random_keys(self) -> None:
        """Collect the random keys of all processes for `state`; all must call it at one step."""
        self.random_keys = distributed.random_keys()

    def state(self) -> tuple[dict[str, mx.array], dict[str, Any]]:
        """Return everything that `restore` needs: arrays by name, and JSON values."""
        trained: Any = tree_flatten(self.trained.parameters())
        arrays = {f"trained.{name}": value for name, value in trained}
        optimizer: Any = tree_flatten(self.optimizer.state)
        arrays |= {f"optimizer.{name}": value for name, value in optimizer}
        arrays["totals"] = self.totals
        # The keys of all processes were collected before; a single process has its current key.
        arrays["random_key"] = self.random_keys if distributed.size() > 1 else random_key()
        progress: dict[str, Any] = {"epoch": self.epoch, "step": self.step, "seconds": self.seconds}
        progress |= {"has_codebook": self.has_codebook, "merged": self.merged}
        if self.learned_neighbours is not None:
            arrays[LEARNED_NEIGHBOURS] = mx.array(self.learned_neighbours)
        return arrays, progress | {"history": self.history}

    def restore(self, arrays: dict[str, mx.array], progress: dict[str, Any]) -> None:
        """Restore what `state` returned, in a Trainer of the same model, data and config.

        Raises ValueError or KeyError if it does not fit.
        """
        require_progress(progress, self.steps_per_epoch)
        arrays, progress = from_0_2(arrays, progress)
        learned_neighbours = arrays.pop(LEARNED_NEIGHBOURS, None)
        expected, _ = self.state()
        expected.pop(LEARNED_NEIGHBOURS, None)
        require_like(arrays, expected)
        self.trained.load_weights(_below("trained.", arrays))
        for heads in (self.objective.heads, self.objective.sub_clusters):
            if heads is not None:
                heads.require_choice()
        # In place, since compiled steps hold this dictionary.
        self.optimizer.state.update(tree_unflatten(_below("optimizer.", arrays)))  # type: ignore[arg-type]
        self.optimizer.init(self.trained.trainable_parameters())  # adds entries without arrays
        self.compiled.clear()
        self.totals = arrays["totals"]
        distributed.set_random_keys(arrays["random_key"])
        self.random_keys = distributed.random_keys()
        self.epoch, self.step = progress["epoch"], progress["step"]
        self.learned_neighbours = None
        if learned_neighbours is not None:
            self.learned_neighbours = required_graph(learned_neighbours, len(self.rows))
        self.seconds, self.history = progress["seconds"], list(progress["history"])
        self.has_codebook = progress.get("has_codebook") is True  # version 0.1 has no entry
        self._begin(Merged.from_json(progress.get("merged")))


def _below(prefix: str, arrays: dict[str, mx.array]) -> list[tuple[str, mx.array]]:
    return [(k.removeprefix(prefix), v) for k, v in arrays.items() if k.startswith(prefix)]
