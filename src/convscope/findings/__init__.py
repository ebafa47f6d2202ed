"""Findings: what an atlas says of a network's channels, in sentences with their numbers."""

from convscope.findings.evidence import ByClass, Evidence
from convscope.findings.examination import Examination, examine
from convscope.findings.finding import KINDS, REMARKS, Finding

__all__ = ["KINDS", "REMARKS", "ByClass", "Evidence", "Examination", "Finding", "examine"]
