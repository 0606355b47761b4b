"""HATS catalogues through LSDB: prediction that spreads over the workers of a Dask cluster."""

from photoz.adapters.lsdb.catalogues import predict
from photoz.adapters.lsdb.scoring import score_hats

__all__ = ["predict", "score_hats"]
