"""Reports: pages of one file, and the findings on a network's channels."""

from convscope._reports.findings import Report, report
from convscope._reports.page import Page, PageSection

__all__ = ["Page", "PageSection", "Report", "report"]
