"""Fit the default estimators to mock galaxies, each in a process of its own; keep the bundles.

python experiments/benchmarks/fit_mock.py FOLDER [N_GALAXIES] [FAMILY ...]
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import photoz
from photoz.estimators import get_estimator

FAMILIES = ("forest", "boosting", "network")


def main(folder: Path, n_galaxies: int, families: list[str]) -> None:
    """Print a line per family: time and memory of the fit, and CRPS on new mock galaxies."""
    print(f"{n_galaxies} galaxies\nfamily     seconds  CPU seconds  peak MB   CRPS", flush=True)
    for family in families:
        subprocess.run(
            [sys.executable, __file__, "--one", str(folder), str(n_galaxies), family], check=True
        )


def fit_one(folder: Path, n_galaxies: int, family: str) -> None:
    """Fit one family in this process."""
    train = photoz.make_mock_catalogue(n_galaxies, random_state=0)
    new = photoz.make_mock_catalogue(2_000, random_state=1)
    model = photoz.PhotozModel(
        photoz.load_survey("lsst"),
        photoz.PhotometricFeatures(),
        photoz.Augmentation(),
        get_estimator(family)(z_max=6.0, random_state=0),
    )
    started, cpu_started = time.perf_counter(), time.process_time()
    model.fit(train.photometry, train.z_spec)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    crps = photoz.evaluate(new.z_spec, model.predict_pdf(new.photometry)).metrics["crps"]
    photoz.save_model(model, folder / family)
    print(f"{family:10} {seconds:7.1f} {cpu:12.1f} {peak:8.0f} {crps:6.4f}")


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        fit_one(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        _, directory, *rest = sys.argv
        size = int(rest[0]) if rest else 10_000
        main(Path(directory), size, rest[1:] or list(FAMILIES))
