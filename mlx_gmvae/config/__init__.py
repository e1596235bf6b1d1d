"""What a model is and how it is trained: two frozen, validated, JSON-serialisable records."""

from .model import ModelConfig
from .training import TrainConfig

__all__ = ["ModelConfig", "TrainConfig"]
