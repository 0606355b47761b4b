"""Mock catalogues: made-up galaxies of which the true p(z) is known."""

from photoz.mock.catalogue import MockCatalogue, make_mock_catalogue
from photoz.mock.universe import MockUniverse

__all__ = ["MockCatalogue", "MockUniverse", "make_mock_catalogue"]
