"""The command line without plots and with few resamples, for tests that look at neither."""

from functools import partial
from unittest.mock import patch

from photoz.cli import main
from photoz.evaluation import evaluate

PATCHES = {
    "photoz.record.plot_evaluation": lambda _: {},
    "photoz.record.plot_search": lambda *_: b"",
    "photoz.outcome.evaluate": partial(evaluate, n_bootstrap=20),
    "photoz.report.compare_estimators": lambda _: None,
    "photoz.report.plot_evaluation": lambda _: {},
    "photoz.report.plot_search": lambda *_: None,
    "photoz.report.to_png": lambda _: b"",
}


def start_patches(*, but=""):
    """Begin to leave out what takes long, but for one; the patches, which can be stopped."""
    patches = [patch(name, value) for name, value in PATCHES.items() if name != but]
    for one in patches:
        one.start()
    return patches


if __name__ == "__main__":
    start_patches()
    main()
