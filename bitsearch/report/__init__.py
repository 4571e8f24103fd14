"""The report: one HTML page, complete in itself, that shows what a search found and how."""

from bitsearch.report.comparison import write_comparison
from bitsearch.report.page import write_report

__all__ = ["write_comparison", "write_report"]
