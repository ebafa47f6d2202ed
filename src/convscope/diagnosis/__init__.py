"""Diagnosis: where a classifier fails, and what its errors have in common."""

from convscope.diagnosis.figures import Calibration, Telling
from convscope.diagnosis.groups import Group
from convscope.diagnosis.result import Diagnosis, examine

__all__ = ["Calibration", "Diagnosis", "Group", "Telling", "examine"]
