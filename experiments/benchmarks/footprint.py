"""CPU seconds from a cold start to a loaded model, for bundles of any family.

python experiments/benchmarks/footprint.py BUNDLE ...

Each bundle is loaded by a process of its own, after the same process has been run once to fill
the disk cache; the least of five runs counts.
"""

import subprocess
import sys

RUNS = 5
LOAD = """
import sys, time
from photoz.bundle import load_model
from photoz.prediction import prediction_columns
imported = time.process_time()
load_model(sys.argv[1])
print(imported, time.process_time() - imported)
"""


def seconds(bundle: str) -> tuple[float, float]:
    """CPU seconds of Python with the imports, and of loading."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, bundle], check=True, capture_output=True, text=True
    )
    imported, loaded = done.stdout.split()
    return float(imported), float(loaded)


def main() -> None:
    """Print a line per bundle."""
    print("bundle  import s  load s (with the libraries of the family)")
    for bundle in sys.argv[1:]:
        imported, loaded = min(seconds(bundle) for _ in range(RUNS + 1))
        print(f"{bundle}  {imported:.2f}  {loaded:.2f}")


if __name__ == "__main__":
    main()
