"""RAIL finds the stages of photoz because it imports every package of this namespace."""

from rail.estimation.algos.photoz import PhotozCatEstimator, PhotozCatInformer

__all__ = ["PhotozCatEstimator", "PhotozCatInformer"]
