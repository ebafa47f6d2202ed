"""Findings: what an atlas says of a network's channels, in sentences with their numbers."""

from convscope._health.evidence import ByClass, Evidence
from convscope._health.examination import Examination, examine
from convscope._health.finding import KINDS, REMARKS, Finding

__all__ = ["KINDS", "REMARKS", "ByClass", "Evidence", "Examination", "Finding", "examine"]
