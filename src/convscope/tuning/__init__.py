"""Tuning: what channels follow, and what they ignore."""

from convscope.tuning.result import LayerSensitivity, Sensitivity
from convscope.tuning.run import sensitivity

__all__ = ["LayerSensitivity", "Sensitivity", "sensitivity"]
