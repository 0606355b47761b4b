"""Photometric redshifts with calibrated p(z)."""

__version__ = "0.1.0"
