"""Reports: pages of one file, and the findings on a network's channels."""

from convscope.reports.findings import Report, report
from convscope.reports.page import Page, Part

__all__ = ["Page", "Part", "Report", "report"]
