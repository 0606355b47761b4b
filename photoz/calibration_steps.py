"""The two steps of a calibration: a power of p(z), and a map of its cumulative distribution."""

from photoz.pit_map import PitMap
from photoz.temperature import PowerTable, Temperature

__all__ = ["PitMap", "PowerTable", "Temperature"]
