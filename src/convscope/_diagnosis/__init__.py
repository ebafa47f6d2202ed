"""Diagnosis: where a classifier fails, and what its errors have in common."""

from convscope._diagnosis.diagnosis import MIN_CLASS_IMAGES, Diagnosis, diagnose_classifier
from convscope._diagnosis.errors import MIN_PURITY, ChannelDifference, FailureGroup
from convscope._diagnosis.predictions import Calibration, Predictions

__all__ = [
    "MIN_CLASS_IMAGES",
    "MIN_PURITY",
    "Calibration",
    "ChannelDifference",
    "Diagnosis",
    "FailureGroup",
    "Predictions",
    "diagnose_classifier",
]
