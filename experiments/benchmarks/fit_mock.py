"""Fit the default estimators to mock galaxies, time the fits and export the bundles.

python experiments/benchmarks/fit_mock.py FOLDER [N_GALAXIES]
"""

import sys
import time
from pathlib import Path

import photoz
from photoz.estimators import get_estimator

FAMILIES = ("forest", "boosting", "network")


def main() -> None:
    """Print a line per family: seconds of the fit and CRPS on new mock galaxies."""
    folder = Path(sys.argv[1])
    n_galaxies = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    train = photoz.make_mock_catalogue(n_galaxies, random_state=0)
    new = photoz.make_mock_catalogue(2_000, random_state=1)
    print("family     seconds    CRPS")
    for name in FAMILIES:
        model = photoz.PhotozModel(
            photoz.load_survey("lsst"),
            photoz.PhotometricFeatures(),
            photoz.Augmentation(),
            get_estimator(name)(z_max=6.0, random_state=0),
        )
        started = time.perf_counter()
        model.fit(train.photometry, train.z_spec)
        seconds = time.perf_counter() - started
        crps = photoz.evaluate(new.z_spec, model.predict_pdf(new.photometry)).metrics["crps"]
        photoz.save_model(model, folder / name)
        print(f"{name:10} {seconds:7.1f} {crps:7.4f}")


if __name__ == "__main__":
    main()
