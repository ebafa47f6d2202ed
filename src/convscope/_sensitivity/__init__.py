"""Tuning: what channels follow, and what they ignore."""

from convscope._sensitivity.result import LayerSensitivity, Sensitivity
from convscope._sensitivity.run import sensitivity

__all__ = ["LayerSensitivity", "Sensitivity", "sensitivity"]
