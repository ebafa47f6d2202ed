"""Reports: pages of one file, and the findings on a network's channels."""

from convscope._reports.channel_health import HealthReport, report
from convscope._reports.page import Page, PageSection

__all__ = ["HealthReport", "Page", "PageSection", "report"]
