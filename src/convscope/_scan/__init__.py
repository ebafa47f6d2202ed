"""Scanning a dataset: what every channel of a network responds to, in one pass."""

from convscope._scan.sweep import Step, scan

__all__ = ["Step", "scan"]
