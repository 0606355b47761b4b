"""NetworkPhotoz: a dense network whose output is a Gaussian mixture in redshift."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file, save_file
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from photoz.estimators.base import Choice, OnStep, PhotozEstimator, Range, Rows
from photoz.estimators.dense_networks import DenseNetworks, MixtureHead
from photoz.estimators.labels import n_of_z_at
from photoz.estimators.limits import Limits, OneOf
from photoz.estimators.training_plan import PARTS, Device, TrainingPlan
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["NetworkPhotoz"]

_FILE = "network.safetensors"
# Beyond so many standard deviations a feature says no more than that it lies far out.
_FARTHEST = 10.0
_SCALED_ROWS = 65_536
_DENSITY_ROWS = 2048


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
        Networks from different random starts, whose activations bend with different slopes,
        from gentle to steep; their densities are averaged.
    device
        Where the network is trained; "auto" takes CUDA where there is one. Predictions need
        neither that nor torch.
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
        weight_decay: float = 0.3,
        members: int = 4,
        device: Device = "auto",
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
            "width": Range(96, 256, log=True),
            "layers": Range(2, 4),
            "n_components": Range(3, 10),
            "updates": Range(400, 6000, log=True, beyond=24_000),
            "learning_rate": Range(1e-3, 1e-2, log=True),
            "weight_decay": Range(1e-2, 3.0, log=True),
        }

    @classmethod
    def load_libraries(cls) -> None:
        """Import torch, which predictions do without."""
        import_module("torch")

    @property
    def n_steps(self) -> int | None:
        """Parts of a cycle."""
        return PARTS

    @classmethod
    def n_finalists(cls) -> int:
        """Five: among the best trials chance decides as much as the parameters do."""
        return 5

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
        n_gaussians = self.networks_.n_gaussians
        found = np.empty((3, len(X), n_gaussians), dtype=np.float32)
        for start in range(0, len(X), _SCALED_ROWS):
            rows = slice(start, start + _SCALED_ROWS)
            found[:, rows] = self.networks_.mixture(self.scaling_.apply(X[rows]))
        return found[0], found[1], found[2]

    def _predict_density(self, X: NDArray[np.float32]) -> FloatArray:
        weights, means, sigmas = self.predict_mixture(X)
        density = np.empty((len(X), len(self.z_grid_)), dtype=np.float32)
        for start in range(0, len(X), _DENSITY_ROWS):
            rows = slice(start, start + _DENSITY_ROWS)
            density[rows] = RedshiftPDF.from_mixture(
                self.z_grid_, weights[rows], means[rows], sigmas[rows]
            ).density
        return density

    def _fit(self, train_rows: Rows, validation: Rows | None, on_step: OnStep | None) -> None:
        # It needs torch.
        from photoz.estimators.network_training import train_networks  # noqa: PLC0415

        # A seed of its own: nothing is drawn from torch's global generator.
        seed = int(check_random_state(self.random_state).randint(2**31))
        scaling = _Scaling.learn(train_rows.X)
        location, scatter = float(train_rows.z_spec.mean()), float(train_rows.z_spec.std())
        step, z_max = float(self.z_grid_[1]), float(self.z_grid_[-1])
        plan = TrainingPlan(
            sizes=(scaling.n_inputs, *[self.width] * self.layers, self.n_components),
            members=self.members,
            head=MixtureHead(location, scatter or 1.0, 2 * step, z_max),
            updates=self.updates,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            device=self.device,
            seed=seed,
        )
        unseen = self._columns(validation, scaling) if validation else None
        trained = train_networks(plan, self._columns(train_rows, scaling), unseen, on_step)
        self.scaling_, self.networks_ = scaling, trained.networks
        self.learning_curve_ = trained.learning_curve
        if trained.updates is not None:
            self.tuned_ = {"updates": trained.updates}

    def _columns(self, rows: Rows, scaling: _Scaling) -> list[NDArray[np.float32]]:
        columns: list[FloatArray] = [scaling.apply(rows.X), rows.z_spec, rows.weight]
        if rows.reliability is not None:
            right = np.clip(rows.reliability, 1e-6, 1 - 1e-6)
            columns += [np.log(right), np.log((1 - right) * n_of_z_at(rows, self.z_grid_))]
        return [column.astype(np.float32) for column in columns]

    def _save(self, directory: Path) -> None:
        networks = self.networks_
        arrays: dict[str, NDArray[Any]] = {"head": np.array(astuple(networks.head))}
        for name, layers in (("weights", networks.weights), ("biases", networks.biases)):
            arrays |= {f"networks.{name}.{k}": layer for k, layer in enumerate(layers)}
        arrays |= {f"scaling.{key}": part for key, part in vars(self.scaling_).items()}
        save_file(arrays, directory / _FILE)

    def _load(self, directory: Path) -> None:
        arrays = load_file(directory / _FILE)
        self.scaling_ = _Scaling(*(arrays[f"scaling.{part.name}"] for part in fields(_Scaling)))
        n_layers = sum(name.startswith("networks.weights.") for name in arrays)
        weights, biases = (
            [arrays[f"networks.{name}.{k}"] for k in range(n_layers)]
            for name in ("weights", "biases")
        )
        self.networks_ = DenseNetworks(weights, biases, MixtureHead(*arrays["head"].tolist()))


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
