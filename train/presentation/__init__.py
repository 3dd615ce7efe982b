"""Results as sentences, tables and figures: in files, in HTML and on the terminal."""

from .findings import Findings, publish, write_findings
from .plots import Line, Plot
from .tables import Table

__all__ = ["Findings", "Line", "Plot", "Table", "publish", "write_findings"]
