"""TrainingPlan: which networks are trained, for how long and at which pace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from photoz.estimators.dense_networks import MixtureHead

__all__ = ["PARTS", "REPORTED", "Device", "TrainingPlan", "one_cycle", "shortest_cycle"]

Device = Literal["auto", "cpu", "cuda"]

PARTS = 20
"""Parts of a cycle, after which its progress is reported."""

REPORTED = tuple(range(9, PARTS + 1))
"""Parts after which there is a loss to tell hopeless trials by. Earlier, while the rate is high,
those that learn fast look better than those that end well."""

_WARM_UP = 0.25
# Members whose activations bend alike err alike; these are evenly spread between two slopes.
_SLOPES = 2**-0.5, 2**3.5


@dataclass(frozen=True)
class TrainingPlan:
    """Which networks are trained, and how.

    Parameters
    ----------
    sizes
        Number of inputs, of units of each hidden layer, and of components.
    members
        Number of networks.
    head
        What their outputs mean.
    updates
        Steps of the optimiser; None to follow the number of rows, and the validation rows.
    batch_size
        Rows of each step.
    learning_rate
        Highest rate of the cycle.
    weight_decay
        Decoupled weight decay of AdamW.
    device
        Where to train; "auto" takes CUDA where there is one.
    seed
        Seed of the starting weights and of the order of the rows.
    """

    sizes: tuple[int, ...]
    members: int
    head: MixtureHead
    updates: int | None
    batch_size: int
    learning_rate: float
    weight_decay: float
    device: Device
    seed: int

    @property
    def slopes(self) -> tuple[float, ...]:
        """Slope of each member's activations: for four members 1, 2, 4 and 8."""
        low, high = _SLOPES
        shares = ((member + 0.5) / self.members for member in range(self.members))
        return tuple(low * (high / low) ** share for share in shares)


def shortest_cycle(n_rows: int) -> int:
    """Updates of a cycle that so many rows are worth in any case."""
    return math.ceil(6 * math.sqrt(n_rows))


def one_cycle(progress: float) -> float:
    """Learning rate at a share of the cycle, in units of the highest one."""
    if progress < _WARM_UP:
        return 0.04 + 0.48 * (1 - math.cos(math.pi * progress / _WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))
