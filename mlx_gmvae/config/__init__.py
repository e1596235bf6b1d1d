"""Configurations of models and of training: frozen, validated, JSON-serialisable records."""

from .model import ModelConfig
from .training import TrainConfig

__all__ = ["ModelConfig", "TrainConfig"]
