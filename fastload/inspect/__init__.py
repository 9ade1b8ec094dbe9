"""What is in a data set: statistics, duplicates, decode cost, pictures, and the page that shows them."""

from __future__ import annotations

from fastload.inspect.findings import Finding as Finding
from fastload.inspect.report import Inspection as Inspection
from fastload.inspect.run import inspect_dataset as inspect_dataset
from fastload.inspect.run import write_html as write_html
from fastload.inspect.run import write_png as write_png

__all__ = ["Finding", "Inspection", "inspect_dataset", "write_html", "write_png"]
