"""The report of a training run: one HTML file that needs no other, and the table of its exports."""

from .exports import export_table as export_table
from .write import write_run_report as write_run_report
