"""Adam with the parameters shared among the CPU's cores."""

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_map

from ..device.parallel import streams_to_use


class Adam(optim.Adam):
    """MLX's Adam with bias correction; every parameter on the stream that has the fewest so far."""

    def __init__(self, learning_rate: float):
        super().__init__(learning_rate=learning_rate, bias_correction=True)
        self._loads: list[int] = []

    def restart(self) -> None:
        """Forget all moments and the number of steps, in the same state: compiled steps hold it."""
        rate = self.learning_rate
        self.state.update(tree_map(mx.zeros_like, self.state))
        self.learning_rate = rate

    def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
        self._loads = [0] * len(streams_to_use())
        return super().apply_gradients(gradients, parameters)  # type: ignore[no-any-return]

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
        if len(self._loads) < 2:
            return super().apply_single(gradient, parameter, state)
        lightest = self._loads.index(min(self._loads))
        self._loads[lightest] += parameter.size
        with mx.stream(streams_to_use()[lightest]):
            return super().apply_single(gradient, parameter, state)
