"""JSON of values that came out of numpy."""

from __future__ import annotations

import numpy as np

__all__ = ["plain_value"]


def plain_value(value: object) -> object:
    """Numpy scalar as a number of Python: the ``default`` of `json.dumps`.

    Raises
    ------
    TypeError
        If it is anything else.
    """
    if isinstance(value, np.generic):
        return value.item()
    msg = f"JSON cannot hold a {type(value).__name__}."
    raise TypeError(msg)
