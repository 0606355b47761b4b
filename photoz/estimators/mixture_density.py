"""Mixture density networks: dense layers, a Gaussian mixture in redshift, their training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

import numpy as np
import torch
from torch import Tensor, nn

__all__ = [
    "CHUNK",
    "PARTS",
    "MixtureHead",
    "MixtureNetworks",
    "Report",
    "Schedule",
    "TensorRows",
    "log_loss",
    "one_thread",
    "train",
]

CHUNK = 2048
"""Galaxies per pass through the networks. Always the same number, filled up with zeros: a
matrix product of another shape may round differently, and p(z) would depend on the others."""

PARTS = 20
"""Parts of a cycle, after which its progress is reported."""

# Parts after which there is a loss, by which hopeless trials are told: few where it is early.
_REPORTED = (4, 8, *range(10, PARTS + 1))
_REPORT_ROWS = 2 * CHUNK
_WARM_UP = 0.25
_CLIP_NORM = 1.0
_SMALLEST_MASS = 1e-6


@dataclass(frozen=True)
class MixtureHead:
    """From raw outputs to Gaussian mixtures in redshift, cut off at 0 and `z_max`.

    Parameters
    ----------
    location, scale
        Redshifts that the raw outputs 0 and 1 stand for: their mean and scatter.
    narrowest
        Lower limit of the standard deviations.
    z_max
        Upper end of the redshifts.
    """

    location: float
    scale: float
    narrowest: float
    z_max: float

    def log_likelihood(self, raw: Tensor, z_spec: Tensor) -> Tensor:
        """Log density at `z_spec` of the mixture cut off at 0 and `z_max`.

        Parameters
        ----------
        raw
            Shape ``(members, 3 * n_components, n_rows)``.
        z_spec
            Shape ``(members, n_rows)``.
        """
        logit, mean, sigma, log_mass = self._parts(raw)
        deviation = (z_spec.unsqueeze(1) - mean) / sigma
        density = (logit - sigma.log() - 0.5 * deviation.square()).logsumexp(1)
        return density - log_mass - 0.5 * math.log(2 * math.pi)

    def mixture(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One mixture of all members: weights of sum one, means and standard deviations.

        Its part between 0 and `z_max`, normalised, is the mean of the members' densities.
        Shapes ``(n_rows, members * n_components)``.
        """
        logit, mean, sigma, log_mass = self._parts(raw)
        # Each member counts alike within the grid, however much of it lies beyond.
        weight = (logit - log_mass.unsqueeze(1)).flatten(end_dim=1)
        # A component far beyond the grid would leave nothing on it but zeros.
        mean = torch.clamp(mean, -4 * sigma, self.z_max + 4 * sigma)
        parts = (weight.softmax(0), mean.flatten(end_dim=1), sigma.flatten(end_dim=1))
        weights, means, sigmas = (part.T for part in parts)
        return weights, means, sigmas

    def _parts(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Unnormalised log weights, means, sigmas, log of the weight between 0 and `z_max`."""
        logit, mean, width = raw.chunk(3, dim=1)
        mean = self.location + self.scale * mean
        sigma = self.narrowest + self.scale * nn.functional.softplus(width)
        unit = math.sqrt(0.5) / sigma
        inside = 0.5 * (torch.erf((self.z_max - mean) * unit) + torch.erf(mean * unit))
        log_mass = (logit + inside.clamp(min=_SMALLEST_MASS).log()).logsumexp(1)
        return logit, mean, sigma, log_mass


class MixtureNetworks(nn.Module):
    """Independent networks of one shape, evaluated together.

    One batched matrix product serves all members, which takes far less time than one
    network after another. Galaxies are the last axis of the hidden layers and the output, so
    that the mixtures are computed along contiguous memory.

    Parameters
    ----------
    sizes
        Number of inputs, of units of each hidden layer, and of components.
    members
        Number of networks.
    head
        What the outputs mean.
    generator
        Source of the starting weights.
    """

    def __init__(
        self, sizes: Sequence[int], members: int, head: MixtureHead, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.members = members
        self.head = head
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        n_components = sizes[-1]
        for n_in, n_out in pairwise([*sizes[:-1], 3 * n_components]):
            bound = n_in**-0.5
            weight = torch.empty(members, n_out, n_in).uniform_(-bound, bound, generator=generator)
            bias = torch.empty(members, n_out, 1).uniform_(-bound, bound, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))
        # The components start side by side, over the range of the redshifts.
        means = torch.linspace(-1.5, 1.5, n_components) if n_components > 1 else torch.zeros(1)
        self.biases[-1].data[:, n_components : 2 * n_components, 0] = means

    def forward(self, inputs: Tensor) -> Tensor:
        """Raw outputs of shape ``(members, 3 * n_components, n_rows)``.

        Parameters
        ----------
        inputs
            Shape ``(members, n_rows, n_inputs)``, or ``(n_rows, n_inputs)`` for all alike.
        """
        x = inputs.expand(self.members, -1, -1).transpose(1, 2)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, weight, x)
            if layer < last:
                x = nn.functional.silu(x)
        return x


@dataclass(frozen=True)
class TensorRows:
    """Rows of a training or validation set on the device.

    Parameters
    ----------
    X, z_spec, weight
        Inputs of shape ``(n_rows, n_inputs)``, redshifts and weights of shape ``(n_rows,)``.
    log_right, log_wrong
        Log of r and of (1 - r) n(z), where r is the probability that a redshift is right and
        n(z) the density of all redshifts; None if all are right.
    """

    X: Tensor
    z_spec: Tensor
    weight: Tensor
    log_right: Tensor | None = None
    log_wrong: Tensor | None = None

    def __len__(self) -> int:
        return len(self.z_spec)

    def __getitem__(self, rows: Tensor) -> TensorRows:
        return TensorRows(
            self.X[rows],
            self.z_spec[rows],
            self.weight[rows],
            None if self.log_right is None else self.log_right[rows],
            None if self.log_wrong is None else self.log_wrong[rows],
        )


@dataclass(frozen=True)
class Schedule:
    """Number of updates, rows of each, highest learning rate and weight decay."""

    updates: int
    batch_size: int
    learning_rate: float
    weight_decay: float


Report = tuple[TensorRows | None, Callable[[int, float], None]]
"""Validation rows, and what is told the part of a cycle and their log loss there."""


class _OneThread:
    """Torch's number of threads, which is the whole process's: kept at one while anyone asks."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._before = 1

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = torch.get_num_threads()
                torch.set_num_threads(1)
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                torch.set_num_threads(self._before)


_ONE_THREAD = _OneThread()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: matrices this small gain nothing from a second one.

    Fits may run side by side; the last that ends gives the threads back.
    """
    _ONE_THREAD.enter()
    try:
        yield
    finally:
        _ONE_THREAD.leave()


def train(
    networks: MixtureNetworks,
    rows: TensorRows,
    schedule: Schedule,
    generator: torch.Generator,
    on_report: Report | None,
) -> dict[int, float]:
    """Maximise the likelihood of the redshifts in one cycle of learning rates.

    Parameters
    ----------
    networks
        Networks on the device of the rows.
    rows
        Rows to learn from.
    schedule
        Length and pace of the training.
    generator
        Source of the order of the rows.
    on_report
        Validation rows, and what is told how many parts of the cycle have ended, and the log
        loss there, NaN without rows.

    Returns
    -------
    dict
        Mean log loss of the batches of each hundredth of the cycle, by its last update.
    """
    parameters = list(networks.parameters())
    # Fused: the layers are so small that the loop over tensors would take as long as they do.
    optimiser = torch.optim.AdamW(
        parameters, betas=(0.9, 0.99), weight_decay=schedule.weight_decay, fused=True
    )
    batches = _batches(len(rows), networks.members, schedule.batch_size, generator)
    unseen, tell = on_report or (None, None)
    reported = range(1, PARTS + 1) if unseen is None else _REPORTED
    reports = {-(-schedule.updates * part // PARTS): part for part in reported}
    losses = []
    for update, batch in zip(range(1, schedule.updates + 1), batches, strict=False):
        pace = _one_cycle(update / schedule.updates)
        for group in optimiser.param_groups:
            group["lr"] = schedule.learning_rate * pace
        optimiser.zero_grad()
        loss = _loss(networks, rows[batch.to(rows.X.device)])
        torch.autograd.backward(loss)
        losses.append(loss.detach())  # fetched later: a device need not wait
        nn.utils.clip_grad_norm_(parameters, _CLIP_NORM * networks.members**0.5)
        optimiser.step()
        if tell is not None and update in reports:
            unseen_loss = math.nan if unseen is None else log_loss(networks, _some(unseen))
            tell(reports[update], unseen_loss)
    return _curve(torch.stack(losses) / networks.members)


def _some(rows: TensorRows) -> TensorRows:
    """Rows for a report: evenly spread, and no more than cost next to nothing."""
    n_rows = min(len(rows), _REPORT_ROWS)
    return rows[torch.linspace(0, len(rows) - 1, n_rows, device=rows.X.device).long()]


def _curve(losses: Tensor) -> dict[int, float]:
    """Mean loss over each hundredth of the updates, by the last of them."""
    parts = losses.tensor_split(min(100, len(losses)))
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return dict(zip(ends, torch.stack([part.mean() for part in parts]).tolist(), strict=True))


def _loss(networks: MixtureNetworks, rows: TensorRows) -> Tensor:
    """Mean log loss of each member on its own rows, summed over the members."""
    likelihood = networks.head.log_likelihood(networks(rows.X), rows.z_spec)
    if rows.log_right is not None and rows.log_wrong is not None:
        likelihood = torch.logaddexp(likelihood + rows.log_right, rows.log_wrong)
    return -((rows.weight * likelihood).sum(1) / rows.weight.sum(1)).sum()


@torch.inference_mode()
def log_loss(networks: MixtureNetworks, rows: TensorRows) -> float:
    """Mean log loss of the members' mean density, with the floor of the metric.

    Parameters
    ----------
    networks
        Networks on the device of the rows.
    rows
        Rows whose redshifts are known.
    """
    total = 0.0
    for some in torch.split(torch.arange(len(rows), device=rows.X.device), CHUNK):
        part = rows[some]
        z_spec_of_all = part.z_spec.expand(networks.members, -1)
        density = networks.head.log_likelihood(networks(part.X), z_spec_of_all).exp().mean(0)
        if part.log_right is not None and part.log_wrong is not None:
            density = density * part.log_right.exp() + part.log_wrong.exp()
        total -= float(density.clamp(min=1e-4).log().sum())
    return total / len(rows)


def _batches(
    n_rows: int, members: int, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Row numbers of shape ``(members, batch)``, without end; each pass shuffles anew."""
    size = min(batch_size, n_rows)
    while True:
        order = torch.stack([torch.randperm(n_rows, generator=generator) for _ in range(members)])
        for start in range(0, n_rows - size + 1, size):
            yield order[:, start : start + size]


def _one_cycle(progress: float) -> float:
    """Learning rate at a share of the cycle, in units of the highest one."""
    if progress < _WARM_UP:
        return 0.04 + 0.48 * (1 - math.cos(math.pi * progress / _WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))
