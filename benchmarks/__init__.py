"""Measurements for maintainers; `README.md` lists them. Not part of the wheel."""
