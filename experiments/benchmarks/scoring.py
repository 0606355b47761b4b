"""Rate and memory of `photoz predict`, and where its time goes, on mock galaxies.

python experiments/benchmarks/scoring.py BUNDLE [BUNDLE ...] [--sizes N [N ...]]

The bundles must be of a survey with the columns of the built-in survey `lsst`, such as those that
`experiments/benchmarks/fit_mock.py` leaves behind. Every run is a process of its own, Parquet in
and Parquet out with the default columns; the time is that of the whole process, its start and the
check of the bundle included. Linear growth is a rate that does not fall with the size, in memory
that does not rise with it. A small run comes before, so that nothing is compiled in those timed.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from photoz.blend import PhotozBlend
from photoz.bundle import load_model
from photoz.catalogue import to_array
from photoz.kernels import COMPILED_FROM, compile_model
from photoz.mock import make_mock_catalogue
from photoz.model import PhotozModel
from photoz.photometry import Photometry, photometry_from_columns
from photoz.prediction import prediction_columns
from photoz.scoring import score_catalogue

CHUNK = 100_000
SIZES = (1_000_000, 5_000_000, 10_000_000)
STAGE_SAMPLE = 60_000
REPETITIONS = 5


def write_mock(path: Path, n_galaxies: int) -> None:
    """Write mock galaxies piece by piece; beyond a few pieces the same ones again."""
    pieces = [
        pa.table(make_mock_catalogue(min(CHUNK, n_galaxies), random_state=seed).to_columns())
        for seed in range(min(5, -(-n_galaxies // CHUNK)))
    ]
    with pq.ParquetWriter(path, pieces[0].schema) as writer:
        for number, start in enumerate(range(0, n_galaxies, CHUNK)):
            writer.write_table(pieces[number % len(pieces)].slice(0, n_galaxies - start))


def run(bundle: str, source: Path, out: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak memory (MB) of the command."""
    command = [sys.executable, "-m", "photoz", "predict", bundle, source, "-o", out, "--quiet"]
    started = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"photoz predict ended with status {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def stages(bundle: str, folder: Path) -> dict[str, float]:
    """Processor time (microseconds per galaxy) of each stage, by one thread.

    The least of some repetitions: other processes and first uses only add to it.
    """
    model, spent = load_model(bundle), dict[str, float]()
    compiled = compile_model(model)

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        started = time.process_time()
        yield
        seconds = time.process_time() - started
        spent[stage] = min(spent.get(stage, math.inf), 1e6 * seconds / STAGE_SAMPLE)

    mock = make_mock_catalogue(STAGE_SAMPLE, random_state=0)
    source = folder / "sample.parquet"
    pq.write_table(pa.table(mock.to_columns()), source)
    columns = {name: to_array(column) for name, column in _columns(source).items()}
    photometry = photometry_from_columns(columns, model.survey)[0]
    for _ in range(REPETITIONS):
        with timed("features"):
            photometry = photometry_from_columns(columns, model.survey)[0]
            first = next(iter(getattr(model, "members", {"": model}).values()))
            first.features.transform(photometry)
        with timed("densities"):
            if compiled is None:
                model.predict_pdf(photometry)
            else:
                predict_compiled(model, photometry)
        with timed("columns"):
            prediction_columns(model, photometry, pdf="quantiles", compiled=compiled)
    scored = score_catalogue(
        model, source, folder / "sample-out.parquet", workers=1, overwrite=True
    )
    per_galaxy = {key: 1e6 * value / STAGE_SAMPLE for key, value in scored.cpu_seconds.items()}
    return {
        "read": per_galaxy["read"],
        "features": spent["features"],
        "model": spent["densities"],
        "summaries": spent["columns"] - spent["densities"],
        "write": per_galaxy["write"],
    }


def predict_compiled(model: PhotozModel | PhotozBlend, photometry: Photometry) -> None:
    """Work out densities as compiled code does, and forget them."""
    from photoz.kernels.densities import (  # noqa: PLC0415 - needs numba
        ROWS,
        densities_of,
        empty_block,
    )

    for member in getattr(model, "members", {"": model}).values():
        fill = densities_of(member.estimator).of(member.features.transform(photometry))
        block = empty_block(model.z_grid, 1e-7)
        for start in range(0, len(photometry), ROWS):
            fill(slice(start, min(start + ROWS, len(photometry))), block)


def _columns(source: Path) -> dict[str, pa.ChunkedArray]:
    table = pq.read_table(source)
    return {name: table[name] for name in table.column_names}


def main() -> None:
    """Print a line per bundle and size, and the stages of each bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "in.parquet"
        write_mock(source, COMPILED_FROM)
        for bundle in chosen.bundles:
            run(bundle, source, folder / "warm.parquet")
            (folder / "warm.parquet").unlink()
        print("bundle                  galaxies  seconds  galaxies/s  CPU-us each  peak MB")
        for n_galaxies in chosen.sizes:
            write_mock(source, n_galaxies)
            for bundle in chosen.bundles:
                seconds, cpu, peak = run(bundle, source, folder / "out.parquet")
                (folder / "out.parquet").unlink()
                print(
                    f"{Path(bundle).name:22s} {n_galaxies:9d} {seconds:8.1f} "
                    f"{n_galaxies / seconds:11.0f} {1e6 * cpu / n_galaxies:12.1f} {peak:8.0f}",
                    flush=True,
                )
        print("\nCPU-us per galaxy, one thread; 'model' counts the features a second time")
        for bundle in chosen.bundles:
            spent = stages(bundle, folder)
            shown = "  ".join(f"{stage} {value:.1f}" for stage, value in spent.items())
            print(f"{Path(bundle).name:22s} {shown}")


if __name__ == "__main__":
    main()
