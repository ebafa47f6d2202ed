"""Diagnosis: where a classifier fails, and what its errors have in common."""

from convscope.diagnosis.figures import Calibration, Telling
from convscope.diagnosis.groups import MIXED, Group
from convscope.diagnosis.result import FEW, Diagnosis, examine

__all__ = ["FEW", "MIXED", "Calibration", "Diagnosis", "Group", "Telling", "examine"]
