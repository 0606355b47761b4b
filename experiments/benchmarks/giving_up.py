"""Measure what giving up hopeless trials saves in whole searches, and what it costs.

python experiments/benchmarks/giving_up.py FOLDER SEED [SET ...]

Every family of each named set is searched as its experiment file says, once as it is and once with
every trial run to its end. The seed is that of the search and of its fits, on the file's split.
Printed are the seconds of the trials and the best loss of the validation galaxies. FOLDER keeps
the studies, so that what was interrupted goes on.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

from photoz.family import Family
from photoz.samples import load_samples
from photoz.sampling import LatePruner
from photoz.settings import Experiment

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
    for name in sys.argv[3:] or ["sdss", "sdss-mgs", "lsst-dc2"]:
        experiment = Experiment.from_toml(Path("experiments") / f"{name}.toml")
        samples = load_samples(experiment)
        reseeded = experiment.model_copy(update={"seed": seed})
        for family in FAMILIES:
            for way, ending in (("as it is", nullcontext()), ("to the end", never())):
                storage = folder / way.replace(" ", "-") / f"{name}-{family}-{seed}.journal"
                with ending:
                    found = Family(family, reseeded, samples).search(
                        storage=storage, on_trial=lambda _: None
                    )
                trials = found.trials
                n_ended = sum(trial.state == "complete" for trial in trials)
                total[way] += found.seconds
                print(
                    f"{name:9} {family:9} {way:10} {found.seconds:6.0f} s, {n_ended:2} of "
                    f"{len(trials)} to the end, best {found.best.value:.4f}",
                    flush=True,
                )
    print(", ".join(f"{way} {seconds:.0f} s" for way, seconds in total.items()))


if __name__ == "__main__":
    main()
