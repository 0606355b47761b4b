"""Training of mixture density networks: the one step of a network that needs torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from photoz.errors import InputError
from photoz.estimators.base import OnStep
from photoz.estimators.dense_networks import DenseNetworks
from photoz.estimators.mixture_density import (
    Columns,
    MixtureNetworks,
    TensorRows,
    log_loss,
    training_loss,
)
from photoz.estimators.training_plan import (
    PARTS,
    REPORTED,
    Device,
    TrainingPlan,
    one_cycle,
    shortest_cycle,
)
from photoz.threads import OneThread

__all__ = ["Trained", "train_networks"]

_REPORT_ROWS = 4096
_CLIP_NORM = 1.0
# Lengths of longer cycles that validation rows may choose, in units of the shortest one, and
# how much log loss each of them must save.
_LONGER = (2.5, 6)
_WORTHWHILE = 0.01

_Report = tuple[TensorRows | None, OnStep]
_Cycle = tuple[MixtureNetworks, dict[int, float]]


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of a training.

    Parameters
    ----------
    networks
        The networks as they predict.
    learning_curve
        Mean log loss of the training rows by update.
    updates
        Length of the cycle, where the validation rows have chosen it.
    """

    networks: DenseNetworks
    learning_curve: dict[int, float]
    updates: int | None


def train_networks(
    plan: TrainingPlan, rows: Columns, unseen: Columns | None, on_step: OnStep | None
) -> Trained:
    """Train networks in one cycle of learning rates.

    Parameters
    ----------
    plan
        What to train, and how. If it leaves the length open, ever longer cycles are tried, as
        long as the validation rows gain by it.
    rows
        Rows to learn from.
    unseen
        Validation rows.
    on_step
        Called with the part of the cycle and the validation loss, NaN without such rows; or,
        where several cycles are tried, with the number of those done and the lowest loss.

    Raises
    ------
    InputError
        If there is no CUDA where it is asked for.
    """
    device = _find_device(plan.device)
    known = TensorRows.of(rows, device)
    validation = None if unseen is None else TensorRows.of(unseen, device)
    chosen = None
    with _one_thread():
        if plan.updates is None and validation is not None:
            (networks, curve), chosen = _longer_cycles(plan, known, validation, on_step)
        else:
            report = None if on_step is None else (validation, on_step)
            updates = plan.updates or shortest_cycle(len(known))
            networks, curve = _cycle(plan, updates, known, report)
    return Trained(networks.trained(), curve, chosen)


def _longer_cycles(
    plan: TrainingPlan, rows: TensorRows, unseen: TensorRows, on_step: OnStep | None
) -> tuple[_Cycle, int]:
    """The cycle that the validation rows choose, and its length."""
    shortest = chosen = shortest_cycle(len(rows))
    best = _cycle(plan, shortest, rows)
    lowest = log_loss(best[0], unseen)
    for step, times in enumerate(_LONGER, start=1):
        if on_step is not None:
            on_step(step, lowest)
        updates = round(times * shortest)
        found = _cycle(plan, updates, rows)
        loss = log_loss(found[0], unseen)
        if loss > lowest - _WORTHWHILE:
            break
        best, lowest, chosen = found, loss, updates
    return best, chosen


def _cycle(
    plan: TrainingPlan, updates: int, rows: TensorRows, on_report: _Report | None = None
) -> _Cycle:
    """Networks trained in one cycle, and their learning curve."""
    # Every cycle starts alike, so that the chosen one can be repeated by itself.
    generator = torch.Generator().manual_seed(plan.seed)
    networks = MixtureNetworks(plan, generator)
    networks = networks.to(rows.X.device)
    parameters = list(networks.parameters())
    # Fused: the layers are so small that the loop over tensors would take as long as they do.
    optimiser = torch.optim.AdamW(
        parameters, betas=(0.9, 0.99), weight_decay=plan.weight_decay, fused=True
    )
    batches = _batches(len(rows), plan.members, plan.batch_size, generator)
    unseen, tell = on_report or (None, None)
    reported = range(1, PARTS + 1) if unseen is None else REPORTED
    reports = {-(-updates * part // PARTS): part for part in reported}
    losses = []
    for update, batch in zip(range(1, updates + 1), batches, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * one_cycle(update / updates)
        optimiser.zero_grad()
        loss = training_loss(networks, rows[batch.to(rows.X.device)])
        torch.autograd.backward(loss)
        losses.append(loss.detach())  # fetched later: a device need not wait
        nn.utils.clip_grad_norm_(parameters, _CLIP_NORM * plan.members**0.5)
        optimiser.step()
        if tell is not None and update in reports:
            unseen_loss = math.nan if unseen is None else log_loss(networks, _some(unseen))
            tell(reports[update], unseen_loss)
    return networks, _curve(torch.stack(losses) / plan.members)


def _some(rows: TensorRows) -> TensorRows:
    """Rows for a report: evenly spread, and no more than cost next to nothing."""
    n_rows = min(len(rows), _REPORT_ROWS)
    return rows[torch.linspace(0, len(rows) - 1, n_rows, device=rows.X.device).long()]


def _curve(losses: Tensor) -> dict[int, float]:
    """Mean loss over each hundredth of the updates, by the last of them."""
    parts = losses.tensor_split(min(100, len(losses)))
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return dict(zip(ends, torch.stack([part.mean() for part in parts]).tolist(), strict=True))


def _batches(
    n_rows: int, members: int, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Row numbers of shape ``(members, batch)``, without end; each pass shuffles anew."""
    size = min(batch_size, n_rows)
    while True:
        order = torch.stack([torch.randperm(n_rows, generator=generator) for _ in range(members)])
        for start in range(0, n_rows - size + 1, size):
            yield order[:, start : start + size]


def _find_device(device: Device) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        msg = "device is 'cuda', but torch finds none; use 'auto' or 'cpu'."
        raise InputError(msg)
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _limit() -> Callable[[], None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    return lambda: torch.set_num_threads(before)


# Matrices this small gain nothing from a second thread.
_one_thread = OneThread(_limit)
