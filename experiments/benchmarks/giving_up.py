"""Measure what giving up hopeless trials saves in whole searches, and what it costs.

python experiments/benchmarks/giving_up.py FOLDER SEED [SET | FAMILY ...]

Every named family (all three by default) of each named set (likewise) is searched as its
experiment file says, once as it is and once with every trial run to its end. The seed is that of
the search and of its fits, on the file's split. Printed are the seconds of the trials and, for
machines that are busy, the CPU seconds of what was not there yet; the best loss of the validation
galaxies and the mean of the three best. FOLDER keeps the studies, so that what was interrupted
goes on.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import fmean
from time import process_time
from unittest.mock import patch

from photoz.family import Family
from photoz.samples import load_samples
from photoz.sampling import LatePruner
from photoz.settings import Experiment

SETS = ("sdss", "sdss-mgs", "lsst-dc2")
FAMILIES = ("forest", "boosting", "network")


@contextmanager
def never() -> Iterator[None]:
    """Let every trial come to its end."""
    with patch.object(LatePruner, "prune", return_value=False):
        yield


def main() -> None:
    """Print a line per set, family and way, and the seconds of all."""
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    total = {"as it is": 0.0, "to the end": 0.0}
    for name in _named(SETS):
        experiment = Experiment.from_toml(Path("experiments") / f"{name}.toml")
        samples = load_samples(experiment)
        reseeded = experiment.model_copy(update={"seed": seed})
        for family in _named(FAMILIES):
            for way, ending in (("as it is", nullcontext()), ("to the end", never())):
                storage = folder / way.replace(" ", "-") / f"{name}-{family}-{seed}.journal"
                started = process_time()
                with ending:
                    found = Family(family, reseeded, samples).search(
                        storage=storage, on_trial=lambda _: None
                    )
                cpu = process_time() - started
                ended = [trial for trial in found.trials if trial.state == "complete"]
                losses = sorted(trial.value for trial in ended if trial.value is not None)
                total[way] += found.seconds
                print(
                    f"{name:9} {family:9} {way:10} {found.seconds:6.0f} s, {cpu:6.0f} CPU s, "
                    f"{len(ended):2} of {len(found.trials)} to the end, best {losses[0]:.4f}, "
                    f"three best {fmean(losses[:3]):.4f}",
                    flush=True,
                )
    print(", ".join(f"{way} {seconds:.0f} s" for way, seconds in total.items()))


def _named(choices: tuple[str, ...]) -> list[str]:
    """Those of the choices that the command names, or all of them."""
    return [choice for choice in choices if choice in sys.argv[3:]] or list(choices)


if __name__ == "__main__":
    main()
