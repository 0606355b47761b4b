"""Rate and memory of `photoz predict` for a bundle, on mock galaxies.

python experiments/benchmarks/scoring.py BUNDLE [N_GALAXIES ...]

The bundle must be of a survey with the columns of the built-in survey `lsst`, such as one that
`experiments/benchmarks/fit_mock.py` leaves behind; each size runs in a process of its own.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from photoz.mock import make_mock_catalogue

CHUNK = 100_000
SIZES = (100_000, 1_000_000)


def write_mock(path: Path, n_galaxies: int) -> None:
    """Write mock galaxies piece by piece."""
    writer = None
    for seed, start in enumerate(range(0, n_galaxies, CHUNK)):
        mock = make_mock_catalogue(min(CHUNK, n_galaxies - start), random_state=seed)
        table = pa.table(mock.to_columns())
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def main() -> None:
    """Print a line per size: galaxies, seconds, rate, peak memory."""
    bundle, *sizes = sys.argv[1:]
    print("galaxies  seconds  galaxies/s  peak MB")
    for n_galaxies in [int(size) for size in sizes] or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "in.parquet", Path(folder) / "out.parquet"
            write_mock(source, n_galaxies)
            started = time.perf_counter()
            command = [sys.executable, "-m", "photoz", "predict", bundle, source, "-o", out]
            subprocess.run([*map(str, command), "--quiet"], check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{n_galaxies:8d} {seconds:8.1f} {n_galaxies / seconds:11.0f} {peak:8.0f}")


if __name__ == "__main__":
    main()
