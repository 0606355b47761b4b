"""The stages of photoz, where RAIL has its estimators."""

from photoz.adapters.rail import PhotozCatEstimator, PhotozCatInformer

__all__ = ["PhotozCatEstimator", "PhotozCatInformer"]
