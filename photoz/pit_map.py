"""PitMap: the map of the cumulative distribution that makes PIT values uniform."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from scipy.optimize import minimize

from photoz.log_score import Truth
from photoz.metrics import pit
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.resolution import keep_resolved, normalise

__all__ = ["PitMap"]


@dataclass(frozen=True)
class PitMap:
    """Monotone map g of the cumulative distribution F: p(z) becomes p(z) g'(F(z)).

    ln g' is a short Legendre series, so that g' is smooth, positive and bounded, and the
    series of zeros is the identity.

    Parameters
    ----------
    coefficients
        Coefficients of the Legendre polynomials of degree 1, 2, ... in 2 F − 1.

    References
    ----------
    Neyman (1937), "Smooth test" for goodness of fit, Skand. Aktuarietidskr. 20, 149
    """

    coefficients: tuple[float, ...]

    @classmethod
    def fit(cls, pz: RedshiftPDF, truth: Truth, degree: int = 4) -> PitMap:
        """Maximise the log score, drawn towards the identity where galaxies are few.

        Parameters
        ----------
        pz, truth
            Densities and true redshifts of galaxies that the estimator has not seen.
        degree
            Number of Legendre polynomials.
        """
        density = pz.at(truth.z_spec)
        basis = legendre.legvander(2 * pit(truth.z_spec, pz) - 1, degree)[:, 1:]
        nodes, weights = legendre.leggauss(64)
        node_basis = legendre.legvander(nodes, degree)[:, 1:]
        # As if 25 galaxies had been seen to speak for the identity.
        prior = 25 / (2 * np.arange(1, degree + 1) + 1) / len(truth)

        def loss(theta: FloatArray) -> tuple[float, FloatArray]:
            mass = 0.5 * weights * np.exp(node_basis @ theta)
            mapped = density * np.exp(basis @ theta) / mass.sum()
            slope = basis - mass @ node_basis / mass.sum()
            value = -truth.log_score(mapped).mean() + 0.5 * prior @ theta**2
            return float(value), -truth.slope(mapped) @ slope / len(truth) + prior * theta

        theta = minimize(loss, np.zeros(degree), jac=True, method="BFGS").x
        return cls(tuple(theta.tolist()))

    def apply(self, density: FloatArray, step: float) -> FloatArray:
        """Map a block of densities, none narrower than the grid can show.

        Parameters
        ----------
        density
            Densities of shape ``(n_galaxies, n_z)``.
        step
            Distance between two points of the grid.
        """
        position = np.cumsum(density, axis=1)
        position -= 0.5 * (density + density[:, :1])
        position *= 2 / position[:, -1:]
        position -= 1
        # Horner's rule on powers of 2 F − 1 takes far fewer passes than the general series.
        powers = legendre.leg2poly([0.0, *self.coefficients]).astype(np.float32)
        series = np.full_like(density, powers[-1])
        for power in powers[-2::-1]:
            series *= position
            series += power
        mapped = np.exp(series, out=series)
        mapped *= density
        return keep_resolved(normalise(mapped, step), step, [density])
