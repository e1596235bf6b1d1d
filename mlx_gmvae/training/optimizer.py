"""Adam, with the parameters distributed over the CPU's cores, or as one vector on a GPU."""

from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from ..device.backend import fuses, on_gpu
from ..device.parallel import streams_to_use


class Adam(optim.Adam):
    """MLX's Adam with bias correction.

    On the CPU every parameter is updated on the stream with the smallest load so far. On a GPU
    where steps are not fused, launching kernels takes the time, a dozen for each parameter. There
    all parameters are updated as one vector. The state is the same tree of moments in both cases.
    """

    def __init__(self, learning_rate: float):
        super().__init__(learning_rate=learning_rate, bias_correction=True)
        self._loads: list[int] = []

    def restart(self) -> None:
        """Reset all moments and the number of steps, in place: compiled steps hold the state."""
        rate = self.learning_rate
        self.state.update(tree_map(mx.zeros_like, self.state))
        self.learning_rate = rate

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        """Return the updated parameters, and update the moments in the state."""
        if on_gpu() and not fuses():
            return self._apply_as_vector(gradients, parameters)
        self._loads = [0] * len(streams_to_use())
        return super().apply_gradients(gradients, parameters)  # type: ignore[no-any-return]

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        if len(self._loads) < 2:
            return super().apply_single(gradient, parameter, state)
        lightest = self._loads.index(min(self._loads))
        self._loads[lightest] += parameter.size
        with mx.stream(streams_to_use()[lightest]):
            return super().apply_single(gradient, parameter, state)

    def _apply_as_vector(self, gradients: dict, parameters: dict) -> dict:
        if not self._initialized:
            self.init(gradients)
        self.state["step"] = self.step + 1
        leaves: list[tuple[mx.array, mx.array, dict[str, mx.array]]] = []
        tree_map(lambda *each: leaves.append(each), gradients, parameters, self.state)
        if not leaves:
            return gradients
        vector = {name: _joined([state[name] for *_, state in leaves]) for name in ("m", "v")}
        gradient = _joined([each for each, *_ in leaves])
        change = optim.Adam.apply_single(self, gradient, mx.array(0.0), vector)
        updated, start = [], 0
        for _, parameter, state in leaves:
            part, shape = slice(start, start + parameter.size), parameter.shape
            state.update({name: vector[name][part].reshape(shape) for name in vector})
            updated.append(parameter + change[part].reshape(shape))
            start = part.stop
        named: Any = zip(tree_flatten(gradients), updated, strict=True)
        return tree_unflatten([(name, value) for (name, _), value in named])  # type: ignore[no-any-return]


def _joined(arrays: list[mx.array]) -> mx.array:
    return mx.concatenate([each.flatten() for each in arrays])
