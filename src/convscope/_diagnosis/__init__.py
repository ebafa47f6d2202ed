"""Diagnosis: where a classifier fails, and what its errors have in common."""

from convscope._diagnosis.figures import Calibration, Telling
from convscope._diagnosis.groups import MIXED, Group
from convscope._diagnosis.result import FEW, Diagnosis, examine

__all__ = ["FEW", "MIXED", "Calibration", "Diagnosis", "Group", "Telling", "examine"]
