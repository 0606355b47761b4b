"""NetworkPhotoz: a dense network whose output is a Gaussian mixture in redshift."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import load_file, save_file
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from photoz.errors import InputError
from photoz.estimators.base import Choice, OnStep, PhotozEstimator, Range, Rows
from photoz.estimators.labels import n_of_z_at
from photoz.estimators.limits import Limits, OneOf
from photoz.estimators.mixture_density import (
    CHUNK,
    PARTS,
    MixtureHead,
    MixtureNetworks,
    Report,
    Schedule,
    TensorRows,
    log_loss,
    one_thread,
    train,
)
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["NetworkPhotoz"]

_FILE = "network.safetensors"
# Beyond so many standard deviations a feature says no more than that it lies far out.
_FARTHEST = 10.0
# Lengths of longer cycles that validation rows may choose, in units of the shortest one, and
# how much log loss each of them must save.
_LONGER = (2.5, 6)
_WORTHWHILE = 0.01

_Trained = tuple[MixtureNetworks, dict[int, float]]


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
    n_components
        Gaussians of one member's mixture.
    updates
        Steps of the optimiser. Not counted in passes through the rows, since noisy copies
        make more rows of the same galaxies. None takes six times the square root of the
        number of rows, and, where there are validation rows, 2.5 and 6 times as many as long
        as these gain by it, which takes up to ten times as long.
    batch_size
        Rows of each step.
    learning_rate
        Highest rate of the cycle.
    weight_decay
        Decoupled weight decay of AdamW.
    members
        Networks from different random starts; their densities are averaged.
    device
        Where the network is trained and used; "auto" takes CUDA where there is one.
    z_max, n_z
        Upper end and number of points of the redshift grid, which starts at 0; the end
        follows from the training redshifts if it is None, the number from the end, in steps
        of 0.004 or finer. No component is narrower (1 sigma) than two steps.
    random_state
        Seed of the starting weights and of the order of the rows.

    Attributes
    ----------
    learning_curve_
        Mean log loss of the training rows by update; after a fit, not after loading.

    References
    ----------
    Bishop (1994), https://publications.aston.ac.uk/id/eprint/373
    Smith (2018), https://arxiv.org/abs/1803.09820
    """

    limits: ClassVar = {
        "width": Limits(1, whole=True),
        "layers": Limits(1, whole=True),
        "n_components": Limits(1, whole=True),
        "updates": Limits(1, whole=True, none="to follow the number of rows"),
        "batch_size": Limits(1, whole=True),
        "learning_rate": Limits(0, above=True),
        "weight_decay": Limits(0),
        "members": Limits(1, whole=True),
        "device": OneOf(("auto", "cpu", "cuda")),
    }

    def __init__(
        self,
        *,
        width: int = 192,
        layers: int = 3,
        n_components: int = 8,
        updates: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 4e-3,
        weight_decay: float = 1e-2,
        members: int = 4,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        z_max: float | None = None,
        n_z: int | None = None,
        random_state: int | None = None,
    ) -> None:
        self.width = width
        self.layers = layers
        self.n_components = n_components
        self.updates = updates
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
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
            "n_components": Range(3, 10),
            "updates": Range(400, 6000, log=True, beyond=24_000),
            "learning_rate": Range(1e-3, 1e-2, log=True),
            "weight_decay": Range(1e-3, 1.0, log=True),
        }

    @property
    def n_steps(self) -> int | None:
        """Parts of a cycle."""
        return PARTS

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
        weights, means, sigmas : ndarray of shape (n_galaxies, members * n_components)
            Weights (of sum one), means and standard deviations in redshift of Gaussians
            that reach beyond the grid; p(z) is their sum from 0 to `z_max`, normalised.
        """
        check_is_fitted(self)
        X = self._check_features(X)
        device = _find_device(self.device)
        networks = self.networks_ if device.type == "cpu" else deepcopy(self.networks_).to(device)
        found = np.empty((3, len(X), self.members * self.n_components), dtype=np.float32)
        chunk = np.zeros((CHUNK, self.scaling_.n_inputs), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(X), CHUNK):
                some = X[start : start + CHUNK]
                chunk[: len(some)] = self.scaling_.apply(some)
                raw = networks(torch.from_numpy(chunk).to(device))
                for target, part in zip(found, networks.head.mixture(raw), strict=True):
                    target[start : start + CHUNK] = part[: len(some)].cpu().numpy()
        return found[0], found[1], found[2]

    def _predict_density(self, X: NDArray[np.float32]) -> FloatArray:
        weights, means, sigmas = self.predict_mixture(X)
        density = np.empty((len(X), len(self.z_grid_)), dtype=np.float32)
        for start in range(0, len(X), CHUNK):
            rows = slice(start, start + CHUNK)
            density[rows] = RedshiftPDF.from_mixture(
                self.z_grid_, weights[rows], means[rows], sigmas[rows]
            ).density
        return density

    def _fit(self, train_rows: Rows, validation: Rows | None, on_step: OnStep | None) -> None:
        device = _find_device(self.device)
        # A seed of its own: nothing is drawn from torch's global generator.
        seed = int(check_random_state(self.random_state).randint(2**31))
        self.scaling_ = _Scaling.learn(train_rows.X)
        location, scatter = float(train_rows.z_spec.mean()), float(train_rows.z_spec.std())
        step, z_max = float(self.z_grid_[1]), float(self.z_grid_[-1])
        head = MixtureHead(location, scatter or 1.0, 2 * step, z_max)
        rows = self._tensors(train_rows, device)

        def cycle(updates: int, report: Report | None = None) -> _Trained:
            # Every cycle starts alike, so that the chosen one can be repeated by itself.
            generator = torch.Generator().manual_seed(seed)
            networks = self._build(head, generator).to(device)
            pace = self.batch_size, self.learning_rate, self.weight_decay
            curve = train(networks, rows, Schedule(updates, *pace), generator, report)
            return networks, curve

        unseen = self._tensors(validation, device) if validation else None
        with one_thread():
            if self.updates is None and unseen is not None:
                found = self._longer_cycles(cycle, len(rows), unseen, on_step)
            else:
                report = None if on_step is None else (unseen, on_step)
                found = cycle(self.updates or _default_updates(len(rows)), report)
        networks, self.learning_curve_ = found
        self.networks_ = networks.cpu().requires_grad_(requires_grad=False)

    def _longer_cycles(
        self,
        cycle: Callable[[int], _Trained],
        n_rows: int,
        unseen: TensorRows,
        on_step: OnStep | None,
    ) -> _Trained:
        """Train in ever longer cycles, as long as the validation rows gain by it."""
        shortest = _default_updates(n_rows)
        best = cycle(shortest)
        lowest = log_loss(best[0], unseen)
        self.tuned_ = {"updates": shortest}
        for step, times in enumerate(_LONGER, start=1):
            if on_step is not None:
                on_step(step, lowest)
            updates = round(times * shortest)
            found = cycle(updates)
            loss = log_loss(found[0], unseen)
            if loss > lowest - _WORTHWHILE:
                break
            best, lowest = found, loss
            self.tuned_ = {"updates": updates}
        return best

    def _build(self, head: MixtureHead, generator: torch.Generator) -> MixtureNetworks:
        sizes = [self.scaling_.n_inputs, *[self.width] * self.layers, self.n_components]
        return MixtureNetworks(sizes, self.members, head, generator)

    def _tensors(self, rows: Rows, device: torch.device) -> TensorRows:
        columns: list[FloatArray] = [self.scaling_.apply(rows.X), rows.z_spec, rows.weight]
        if rows.reliability is not None:
            right = np.clip(rows.reliability, 1e-6, 1 - 1e-6)
            columns += [np.log(right), np.log((1 - right) * n_of_z_at(rows, self.z_grid_))]
        # A batch of rows without weight would have no mean.
        used = rows.weight > 0
        tensors = [torch.from_numpy(part[used].astype(np.float32)).to(device) for part in columns]
        return TensorRows(*tensors)

    def _save(self, directory: Path) -> None:
        tensors = {f"networks.{key}": part for key, part in self.networks_.state_dict().items()}
        for key, part in vars(self.scaling_).items():
            tensors[f"scaling.{key}"] = torch.from_numpy(part)
        head = list(asdict(self.networks_.head).values())
        tensors["head"] = torch.tensor(head, dtype=torch.float64)
        save_file(tensors, directory / _FILE)

    def _load(self, directory: Path) -> None:
        tensors = load_file(directory / _FILE)
        self.scaling_ = _Scaling(
            **{key: part.numpy() for key, part in _within(tensors, "scaling.").items()}
        )
        networks = self._build(MixtureHead(*tensors["head"].tolist()), torch.Generator())
        networks.load_state_dict(_within(tensors, "networks."))
        self.networks_ = networks.requires_grad_(requires_grad=False)


@dataclass(frozen=True, eq=False)
class _Scaling:
    """Standardised features, 0 where not observed, followed by flags of what is missing."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    flagged: NDArray[np.int64]

    @property
    def n_inputs(self) -> int:
        return len(self.mean) + len(self.flagged)

    @classmethod
    def learn(cls, X: NDArray[np.float32]) -> _Scaling:
        missing = np.isnan(X)
        n_observed = np.maximum((~missing).sum(axis=0), 1)
        mean = np.nansum(X, axis=0, dtype=np.float64) / n_observed
        std = np.sqrt(np.nansum((X - mean) ** 2, axis=0) / n_observed)
        # Features that are always missing together share one flag.
        _, first = np.unique(missing, axis=1, return_index=True)
        flagged = np.sort(first[missing[:, first].any(axis=0)])
        scale = np.where(std > 0, std, 1)
        return cls(mean.astype(np.float32), scale.astype(np.float32), flagged.astype(np.int64))

    def apply(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled = np.clip((X - self.mean) / self.std, -_FARTHEST, _FARTHEST)
        flags = np.isnan(X[:, self.flagged])
        return np.concatenate([np.nan_to_num(scaled, nan=0), flags], axis=1, dtype=np.float32)


def _default_updates(n_rows: int) -> int:
    return math.ceil(6 * math.sqrt(n_rows))


def _within(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix(prefix): part for key, part in tensors.items() if key.startswith(prefix)
    }


def _find_device(device: str) -> torch.device:
    NetworkPhotoz.check_parameter("device", device)
    if device == "cuda" and not torch.cuda.is_available():
        msg = "device is 'cuda', but torch finds none; use 'auto' or 'cpu'."
        raise InputError(msg)
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
