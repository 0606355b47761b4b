"""Mixture density networks as they are trained, and the likelihood of rows under them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from photoz.estimators.dense_networks import SMALLEST_MASS, DenseNetworks, MixtureHead
from photoz.estimators.training_plan import TrainingPlan

__all__ = [
    "Columns",
    "MixtureNetworks",
    "TensorRows",
    "log_likelihood",
    "log_loss",
    "training_loss",
]

Columns = Sequence[NDArray[np.float32]]
"""Inputs, redshifts and weights of rows and, where redshifts may be wrong, what is known of that;
see `TensorRows`."""

_PASS_ROWS = 2048


class MixtureNetworks(nn.Module):
    r"""Independent networks of one shape, evaluated together.

    One batched matrix product serves all members, which takes far less time than one
    network after another. Galaxies are the last axis of the hidden layers and the output, so
    that the mixtures are computed along contiguous memory.

    The activation is :math:`x / (1 + e^{-\beta x})` (Swish), with a slope :math:`\beta` of its
    own for each member: steep ones learn fine structure, gentle ones smooth it.

    Parameters
    ----------
    plan
        Their number, their layers and what their outputs mean.
    generator
        Source of the starting weights.

    References
    ----------
    Ramachandran, Zoph & Le (2017), https://arxiv.org/abs/1710.05941
    """

    slopes: Tensor

    def __init__(self, plan: TrainingPlan, generator: torch.Generator) -> None:
        super().__init__()
        self.members = members = plan.members
        self.head = plan.head
        self.register_buffer("slopes", torch.tensor(plan.slopes).reshape(-1, 1, 1))
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        *layers, n_components = plan.sizes
        for n_in, n_out in pairwise([*layers, 3 * n_components]):
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
                x = x * torch.sigmoid(self.slopes * x)
        return x

    def trained(self) -> DenseNetworks:
        """The networks as they predict, without torch and with slopes of one.

        x / (1 + exp(-βx)) is y / (1 + exp(-y)) / β of y = βx: hidden layers that are given βx
        pass on β times their result, which the last layer takes back.
        """
        weights, biases = (
            [part.detach() for part in layers] for layers in (self.weights, self.biases)
        )
        weights[0] = weights[0] * self.slopes
        biases[:-1] = [bias * self.slopes for bias in biases[:-1]]
        weights[-1] = weights[-1] / self.slopes
        weights, biases = ([part.cpu().numpy() for part in layers] for layers in (weights, biases))
        return DenseNetworks(weights, biases, self.head)


def log_likelihood(head: MixtureHead, raw: Tensor, z_spec: Tensor) -> Tensor:
    """Log density at `z_spec` of the mixtures, each cut off at 0 and `z_max`.

    Parameters
    ----------
    head
        What the outputs mean.
    raw
        Outputs of shape ``(members, 3 * n_components, n_rows)``.
    z_spec
        Shape ``(members, n_rows)``.
    """
    logit, mean, width = raw.chunk(3, dim=1)
    mean = head.location + head.scale * mean
    sigma = head.narrowest + head.scale * nn.functional.softplus(width)
    unit = math.sqrt(0.5) / sigma
    inside = 0.5 * (torch.erf((head.z_max - mean) * unit) + torch.erf(mean * unit))
    log_mass = (logit + inside.clamp(min=SMALLEST_MASS).log()).logsumexp(1)
    deviation = (z_spec.unsqueeze(1) - mean) / sigma
    density = (logit - sigma.log() - 0.5 * deviation.square()).logsumexp(1)
    return density - log_mass - 0.5 * math.log(2 * math.pi)


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

    @classmethod
    def of(cls, columns: Columns, device: torch.device) -> TensorRows:
        """Copy rows to a device."""
        return cls(*(torch.from_numpy(column).to(device) for column in columns))

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


def training_loss(networks: MixtureNetworks, rows: TensorRows) -> Tensor:
    """Mean log loss of each member on its own rows, summed over the members."""
    likelihood = log_likelihood(networks.head, networks(rows.X), rows.z_spec)
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
    for some in torch.split(torch.arange(len(rows), device=rows.X.device), _PASS_ROWS):
        part = rows[some]
        z_spec_of_all = part.z_spec.expand(networks.members, -1)
        density = log_likelihood(networks.head, networks(part.X), z_spec_of_all).exp().mean(0)
        if part.log_right is not None and part.log_wrong is not None:
            density = density * part.log_right.exp() + part.log_wrong.exp()
        total -= float(density.clamp(min=1e-4).log().sum())
    return total / len(rows)
