"""NetworkPhotoz: a dense network whose output is a Gaussian mixture in redshift."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import load_file, save_file
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from photoz.errors import InputError
from photoz.estimators.base import Choice, OnStep, PhotozEstimator, Range, Rows
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["NetworkPhotoz"]

_REPORTS = 5
_WARM_UP = 0.25
_CLIP_NORM = 1.0
# Galaxies per pass through the network. Always the same number, filled up with zeros, since
# matrix products of another shape round differently.
_CHUNK = 2048


class NetworkPhotoz(PhotozEstimator):
    """Photo-z from a mixture density network.

    A dense network maps the features of a galaxy to the weights, means and widths of
    Gaussians in redshift (Bishop 1994), and is trained on the likelihood of the
    spectroscopic redshifts under that mixture, cut off at both ends of the redshift grid.
    AdamW follows one cycle of learning rates (Smith 2018), whose length is fixed
    beforehand: a cycle that is cut short has not cooled down.

    Parameters
    ----------
    width, layers
        Units of each hidden layer, and number of hidden layers.
    components
        Gaussians of one member's mixture.
    updates
        Steps of the optimiser. Not counted in passes through the rows, since noisy copies
        make more rows of the same galaxies.
    batch_size
        Rows of each step.
    learning_rate
        Highest rate of the cycle.
    weight_decay
        Decoupled weight decay of AdamW.
    dropout
        Share of the hidden units that each training step leaves out.
    members
        Networks from different random starts; their densities are averaged.
    device
        Where the network is trained and used; "auto" takes CUDA where there is one.
    z_max, n_z
        Upper end and number of points of the redshift grid, which starts at 0. No
        component is narrower (1 sigma) than two of its steps.
    random_state
        Seed of the starting weights and of the order of the rows.

    References
    ----------
    Bishop (1994), https://publications.aston.ac.uk/id/eprint/373
    Smith (2018), https://arxiv.org/abs/1803.09820
    """

    def __init__(
        self,
        *,
        width: int = 192,
        layers: int = 3,
        components: int = 8,
        updates: int = 3000,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        dropout: float = 0.0,
        members: int = 4,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        z_max: float | None = None,
        n_z: int = 501,
        random_state: int | None = None,
    ) -> None:
        self.width = width
        self.layers = layers
        self.components = components
        self.updates = updates
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.members = members
        self.device = device
        self.z_max = z_max
        self.n_z = n_z
        self.random_state = random_state

    @classmethod
    def search_space(cls) -> dict[str, Range | Choice]:
        """Ranges that are searched where an experiment does not say otherwise."""
        return {
            "width": Choice((96, 128, 192, 256)),
            "layers": Range(2, 4),
            "components": Range(3, 10),
            "updates": Range(500, 6000, log=True),
            "learning_rate": Range(5e-4, 5e-3, log=True),
            "weight_decay": Range(1e-4, 1.0, log=True),
        }

    @classmethod
    def trial_parameters(cls) -> dict[str, Any]:
        """Parameters that make the fits of a search cheaper and leave its order intact."""
        return {"members": 1}

    def predict_mixture(self, X: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Gaussian mixtures whose parts within the redshift grid are p(z).

        Parameters
        ----------
        X
            Features of shape ``(n_galaxies, n_features)``, NaN where not observed.

        Returns
        -------
        weights, means, sigmas : ndarray of shape (n_galaxies, components * members)
            Weights (of sum one), means and standard deviations in redshift of untruncated
            Gaussians; p(z) is their sum between 0 and `z_max`, divided by its integral.
        """
        check_is_fitted(self)
        return self._mixture(self._check_features(X))

    def _fit(self, train: Rows, validation: Rows | None, on_step: OnStep | None) -> None:
        _check_parameters(self)
        seed = check_random_state(self.random_state).randint(2**31)
        generator = torch.Generator().manual_seed(int(seed))
        device = _find_device(self.device)
        self.scaler_ = _Scaler.learn(train.X)
        head = _Head.learn(train.z_spec, self.z_grid_)
        sizes = [self.scaler_.n_inputs, *[self.width] * self.layers]
        network = _Network(sizes, self.components, self.members, self.dropout, generator)
        self.network_ = network.to(device)
        self.head_ = head
        data = _to_tensors(train, self.scaler_, self.z_grid_, device)
        check = (
            None
            if validation is None
            else _to_tensors(validation, self.scaler_, self.z_grid_, device)
        )
        self._train(data, check, on_step, generator)
        self.network_ = self.network_.eval().cpu()

    def _train(
        self,
        data: _Tensors,
        validation: _Tensors | None,
        on_step: OnStep | None,
        generator: torch.Generator,
    ) -> None:
        network, head = self.network_.train(), self.head_
        fused = torch.optim.AdamW(
            network.parameters(),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        reports = {self.updates * k // _REPORTS: k for k in range(1, _REPORTS + 1)}
        batches = _batches(len(data.X), self.members, self.batch_size, generator)
        for update in range(1, self.updates + 1):
            fused.param_groups[0]["lr"] = self.learning_rate * _one_cycle(update / self.updates)
            rows = next(batches).to(data.X.device)
            likelihood = head.log_likelihood(network(data.X[rows], generator), data.z_spec[rows])
            weight = data.weight[rows]
            if data.reliability is not None:
                likelihood = _mixed(likelihood, data.reliability[rows], data.n_of_z[rows])
            loss = -((weight * likelihood).sum(1) / weight.sum(1)).sum()
            fused.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), _CLIP_NORM * self.members)
            fused.step()
            if on_step is not None and update in reports:
                seen = float(loss.detach()) / self.members
                on_step(reports[update], self._log_loss(validation) if validation else seen)

    def _log_loss(self, data: _Tensors) -> float:
        """Mean log loss of the mean of the members, floored as the metric of that name."""
        self.network_.eval()
        total = 0.0
        with torch.inference_mode():
            for X, z_spec in zip(
                torch.split(data.X, _CHUNK), torch.split(data.z_spec, _CHUNK), strict=True
            ):
                raw = self.network_(X.expand(self.members, -1, -1), None)
                likelihood = self.head_.log_likelihood(raw, z_spec.expand(self.members, -1))
                mean = likelihood.exp().mean(0)
                total -= float(mean.clamp(min=1e-4).log().sum())
        self.network_.train()
        return total / len(data.X)

    def _mixture(self, X: NDArray[np.float32]) -> tuple[FloatArray, FloatArray, FloatArray]:
        device = _find_device(self.device)
        network = self.network_ if device.type == "cpu" else deepcopy(self.network_).to(device)
        inputs = self.scaler_.transform(X)
        found = np.empty((3, len(X), self.members * self.components), dtype=np.float32)
        chunk = np.zeros((_CHUNK, inputs.shape[1]), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(X), _CHUNK):
                n = min(_CHUNK, len(X) - start)
                chunk[:n] = inputs[start : start + n]
                part = torch.from_numpy(chunk).to(device).expand(self.members, -1, -1)
                mixture = self.head_.mixture(network(part, None))
                for target, value in zip(found, mixture, strict=True):
                    target[start : start + n] = value[:n].cpu().numpy()
        return found[0], found[1], found[2]

    def _predict_density(self, X: NDArray[np.float32]) -> FloatArray:
        weights, means, sigmas = self._mixture(X)
        density = np.empty((len(X), len(self.z_grid_)), dtype=np.float32)
        for start in range(0, len(X), _CHUNK):
            part = slice(start, start + _CHUNK)
            pz = RedshiftPDF.from_mixture(self.z_grid_, weights[part], means[part], sigmas[part])
            density[part] = pz.density
        return density

    def _save(self, directory: Path) -> None:
        state = {f"network.{key}": value for key, value in self.network_.state_dict().items()}
        state |= {f"scaler.{key}": torch.from_numpy(v) for key, v in vars(self.scaler_).items()}
        state["head"] = torch.tensor(
            [self.head_.location, self.head_.scale, self.head_.narrowest, self.head_.z_max],
            dtype=torch.float64,
        )
        save_file(
            {key: value.contiguous() for key, value in state.items()},
            directory / "network.safetensors",
        )

    def _load(self, directory: Path) -> None:
        state = load_file(directory / "network.safetensors")
        self.head_ = _Head(*state.pop("head").tolist())
        self.scaler_ = _Scaler(
            **{k.removeprefix("scaler."): v.numpy() for k, v in state.items() if "scaler." in k}
        )
        sizes = [self.scaler_.n_inputs, *[self.width] * self.layers]
        self.network_ = _Network(
            sizes, self.components, self.members, self.dropout, torch.Generator()
        )
        self.network_.load_state_dict(
            {k.removeprefix("network."): v for k, v in state.items() if "network." in k}
        )
        self.network_.eval()


class _Network(nn.Module):
    """Dense networks of several members side by side, from inputs to raw mixture parameters.

    Shapes: inputs ``(members, n_rows, n_inputs)``, output ``(members, n_rows, 3, components)``.
    """

    def __init__(
        self,
        sizes: list[int],
        components: int,
        members: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.components = components
        self.dropout = dropout
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for n_in, n_out in zip(sizes, [*sizes[1:], 3 * components], strict=True):
            bound = n_in**-0.5
            weight = torch.empty(members, n_in, n_out)
            bias = torch.empty(members, 1, n_out)
            self.weights.append(nn.Parameter(weight.uniform_(-bound, bound, generator=generator)))
            self.biases.append(nn.Parameter(bias.uniform_(-bound, bound, generator=generator)))
        with torch.no_grad():
            spread = torch.linspace(-1.5, 1.5, components) if components > 1 else torch.zeros(1)
            self.biases[-1][:, 0, components : 2 * components] = spread

    def forward(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = nn.functional.silu(torch.baddbmm(bias, x, weight))
            if self.training and self.dropout > 0:
                keep = torch.empty(x.shape).bernoulli_(1 - self.dropout, generator=generator)
                x = x * keep.to(x.device) / (1 - self.dropout)
        raw = torch.baddbmm(self.biases[-1], x, self.weights[-1])
        return raw.reshape(*raw.shape[:-1], 3, self.components)


@dataclass(frozen=True)
class _Head:
    """From raw network outputs to Gaussian mixtures in redshift, cut off at 0 and `z_max`."""

    location: float
    scale: float
    narrowest: float
    z_max: float

    @classmethod
    def learn(cls, z_spec: FloatArray, z_grid: FloatArray) -> _Head:
        scale = float(z_spec.std()) or 1.0
        return cls(float(z_spec.mean()), scale, 2 * float(z_grid[1]), float(z_grid[-1]))

    def _parts(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log weights, means, sigmas and log of the mass between 0 and `z_max`."""
        logit, mean, width = raw.unbind(-2)
        mean = self.location + self.scale * mean
        sigma = self.narrowest + self.scale * nn.functional.softplus(width)
        log_weight = logit.log_softmax(-1)
        root = math.sqrt(0.5) / sigma
        inside = 0.5 * (torch.erf((self.z_max - mean) * root) + torch.erf(mean * root))
        log_mass = (log_weight.exp() * inside).sum(-1, keepdim=True).clamp(min=1e-3).log()
        return log_weight, mean, sigma, log_mass

    def log_likelihood(self, raw: Tensor, z_spec: Tensor) -> Tensor:
        """Log density at `z_spec`, of the shape of `z_spec`."""
        log_weight, mean, sigma, log_mass = self._parts(raw)
        term = log_weight - sigma.log() - 0.5 * ((z_spec.unsqueeze(-1) - mean) / sigma) ** 2
        return term.logsumexp(-1) - log_mass.squeeze(-1) - 0.5 * math.log(2 * math.pi)

    def mixture(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, means, sigmas of all members together, ``(n_rows, members * components)``."""
        log_weight, mean, sigma, log_mass = self._parts(raw)
        # Each member counts alike within the grid, however much of it lies beyond.
        weight = (log_weight - log_mass).exp()
        weight = weight / weight.sum((0, 2), keepdim=True)
        flat = [value.transpose(0, 1).flatten(1) for value in (weight, mean, sigma)]
        return flat[0], flat[1], flat[2]


@dataclass(frozen=True, eq=False)
class _Scaler:
    """Standardised features, 0 where not observed, followed by flags of what is missing."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    flagged: NDArray[np.int64]

    @property
    def n_inputs(self) -> int:
        return len(self.mean) + len(self.flagged)

    @classmethod
    def learn(cls, X: NDArray[np.float32]) -> _Scaler:
        missing = np.isnan(X)
        count = np.maximum((~missing).sum(axis=0), 1)
        mean = np.nansum(X, axis=0, dtype=np.float64) / count
        std = np.sqrt(np.nansum((X - mean) ** 2, axis=0) / count)
        # Features that are always missing together share one flag.
        _, first = np.unique(missing, axis=1, return_index=True)
        flagged = np.sort(first[missing[:, first].any(axis=0)])
        return cls(mean, np.where(std > 0, std, 1.0), flagged.astype(np.int64))

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled = ((X - self.mean) / self.std).astype(np.float32)
        flags = np.isnan(X[:, self.flagged]).astype(np.float32)
        return np.concatenate([np.nan_to_num(scaled, nan=0.0), flags], axis=1)


@dataclass(frozen=True, eq=False)
class _Tensors:
    """Rows as tensors; `n_of_z` is the density of all training redshifts at each one."""

    X: Tensor
    z_spec: Tensor
    weight: Tensor
    reliability: Tensor | None
    n_of_z: Tensor


def _to_tensors(rows: Rows, scaler: _Scaler, z_grid: FloatArray, device: torch.device) -> _Tensors:
    used = rows.weight > 0
    tensors = [
        torch.from_numpy(np.ascontiguousarray(value[used], dtype=np.float32)).to(device)
        for value in (
            scaler.transform(rows.X),
            rows.z_spec,
            rows.weight,
            np.ones(len(rows)) if rows.reliability is None else rows.reliability,
            _n_of_z(rows, z_grid),
        )
    ]
    X, z_spec, weight, reliability, n_of_z = tensors
    return _Tensors(
        X, z_spec, weight, reliability if rows.reliability is not None else None, n_of_z
    )


def _n_of_z(rows: Rows, z_grid: FloatArray) -> FloatArray:
    step = z_grid[1]
    edges = np.append(z_grid - step / 2, z_grid[-1] + step / 2)
    counts, _ = np.histogram(rows.z_spec, edges, weights=rows.weight)
    density = RedshiftPDF.from_mixture(
        z_grid,
        counts[np.newaxis],
        z_grid[np.newaxis],
        np.full((1, len(z_grid)), max(2 * step, rows.z_spec.std() * len(rows) ** -0.2)),
    )
    found: FloatArray = np.interp(rows.z_spec, z_grid, density.density[0])
    return found


def _mixed(log_likelihood: Tensor, reliability: Tensor, n_of_z: Tensor) -> Tensor:
    """Log of ``r p(z) + (1 - r) n(z)``."""
    wrong = (1 - reliability) * n_of_z
    return torch.logaddexp(log_likelihood + reliability.log(), wrong.log())


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
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * progress / _WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def _find_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        msg = "device is 'cuda', but torch finds none; use 'auto' or 'cpu'."
        raise InputError(msg)
    return torch.device(device)


def _check_parameters(estimator: NetworkPhotoz) -> None:
    for name in ("width", "layers", "components", "updates", "batch_size", "members"):
        if getattr(estimator, name) < 1:
            msg = f"{name} must be at least 1, got {getattr(estimator, name)}."
            raise InputError(msg)
    if not 0 <= estimator.dropout < 1:
        msg = f"dropout must be at least 0 and below 1, got {estimator.dropout}."
        raise InputError(msg)
