"""What p(z) loses when only its 20 quantiles are kept.

python experiments/benchmarks/fidelity.py BUNDLE [N_GALAXIES]

The bundle must be of a survey with the columns of the built-in survey `lsst`, such as one that
`experiments/benchmarks/fit_mock.py` leaves behind; the galaxies are mock galaxies.
"""

import sys
from pathlib import Path

import numpy as np

import photoz
from photoz.metrics import cde_loss, crps, pit_ks
from photoz.pdf import RedshiftPDF
from photoz.prediction import QUANTILE_LEVELS


def main() -> None:
    """Print CDE loss, CRPS and PIT KS of the whole grid and of its quantiles in float32."""
    model = photoz.load_model(Path(sys.argv[1]))
    n_galaxies = int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
    mock = photoz.make_mock_catalogue(n_galaxies, random_state=1)
    full = model.predict_pdf(mock.photometry)
    quantiles = full.quantiles(QUANTILE_LEVELS).astype(np.float32)
    compact = RedshiftPDF.from_quantiles(full.z_grid, QUANTILE_LEVELS, quantiles)
    print("form       bytes  CDE loss      CRPS   PIT KS")
    for name, pz, size in (
        ("grid", full, full.density[0].nbytes),
        ("quantiles", compact, quantiles[0].nbytes),
    ):
        scores = (metric(mock.z_spec, pz) for metric in (cde_loss, crps, pit_ks))
        print(f"{name:10} {size:5d}", *(f"{score:9.5f}" for score in scores))


if __name__ == "__main__":
    main()
