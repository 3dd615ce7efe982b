"""The report of a run: one HTML file that needs nothing else, and the table of its exports."""

from .data import ReportData, Sample
from .page import render_report, write_report
from .tables import export_table, format_export_table

__all__ = [
    "ReportData",
    "Sample",
    "export_table",
    "format_export_table",
    "render_report",
    "write_report",
]
