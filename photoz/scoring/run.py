"""Run: score a catalogue from its files to the finished output."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

import photoz
from photoz.catalogue import (
    Chunk,
    OutputFormat,
    Paths,
    Place,
    Skipped,
    Source,
    output_format,
    text_widths,
)
from photoz.environment import processors
from photoz.errors import InputError
from photoz.kernels import compiled_for
from photoz.model import FittedModel
from photoz.photometry import Photometry, State
from photoz.prediction import FLAGS, PdfColumn, check_case, survey_for
from photoz.scoring.output import Output
from photoz.scoring.parts import Parts
from photoz.scoring.pipeline import in_order
from photoz.scoring.task import Task
from photoz.survey import Survey

__all__ = ["Scored", "score_catalogue"]

_BYTES_OF_ROW = 100


@dataclass(frozen=True)
class Scored:
    """What became of a catalogue.

    Parameters
    ----------
    n_galaxies
        Rows of the output.
    flagged
        Number of galaxies with each kind of flag that occurs.
    skipped
        What of the catalogue could not be read.
    cpu_seconds
        Time of the processors for reading, computing and writing.
    """

    n_galaxies: int
    flagged: dict[str, int]
    skipped: tuple[str, ...]
    cpu_seconds: dict[str, float]


def score_catalogue(
    model: FittedModel,
    catalogue: Paths,
    out: str | Path,
    *,
    survey: Survey | None = None,
    name: str = "photoz",
    pdf: PdfColumn = "quantiles",
    output: OutputFormat | None = None,
    keep: Sequence[str] = (),
    overwrite: bool = False,
    resume: bool = False,
    skip_bad: bool = False,
    workers: int | None = None,
    chunk_size: int = 20_000,
    on_progress: Callable[[str, int, int | None], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Scored:
    """Write the redshifts of a catalogue, in memory that does not grow with it.

    Reading, computing and writing go on at the same time. As long as the output is not
    complete, its parts lie in a hidden folder beside it.

    Parameters
    ----------
    model
        A fitted model.
    catalogue
        Files, folders or glob patterns; read in order, as if they were one.
    out
        File to write; it appears under this name once it is complete.
    survey
        As in `survey_for`.
    name, pdf
        As in `prediction_columns`.
    output
        Format of `out`; by the end of its name if left out.
    keep
        Further columns to carry over, also those that stand in the names of folders.
    overwrite
        Whether `out` may exist.
    resume
        Whether to go on where an earlier run of the same command was interrupted; the output
        is the same, to the byte, as if it had not been. Otherwise one begins anew.
    skip_bad
        Whether files and rows that cannot be read are left out and reported.
    workers
        Threads that compute; as many as there are processors if left out.
    chunk_size
        Galaxies predicted at a time; it does not change what comes out.
    on_progress
        Called with "galaxies", how many are done, and how many there are, if that is known.
    on_message
        Called with what a user should know on the way.

    Raises
    ------
    InputError
        If the catalogue cannot be used, or `out` exists already.
    """
    tell, out = on_message or (lambda _: None), Path(out)
    expected = survey_for(model, survey)
    kind = output_format(out, output)
    source = Source.open(catalogue, hdf5_group=expected.hdf5_group, skip_bad=skip_bad)
    task = Task(model, expected, name, pdf, keep, compiled_for(model, _rows(source)))
    columns = task.columns(source)
    id_name = task.id_column(columns)
    layout = task.layout(id_name) if kind == "qp" else None
    if kind == "fits":
        check_case([id_name, *keep], name)
    options = {"name": name, "pdf": pdf, "output": kind, "keep": [*keep], "chunk": chunk_size}
    parts = Parts(out, {**_fingerprint(task, source), "options": options})
    if out.exists() and any(file.path.samefile(out) for file in source.files):
        msg = f"{out} is of the catalogue itself, which would be lost; name another output."
        raise InputError(msg)
    if out.is_dir():
        msg = f"{out} is a folder; name a file."
        raise InputError(msg)
    if out.exists() and not overwrite and not (resume and parts.were_published()):
        msg = f"{out} exists; name another file or allow it to be overwritten (--overwrite)."
        raise InputError(msg)
    is_replaced = parts.exist() and not resume
    for text in task.lacking(source):
        tell(text)
    with parts:
        parts.begin(resume=resume)
        if is_replaced:
            tell(f"{parts.folder} was left by a run that did not finish; replaced (see --resume)")
        carried = [column for column in (id_name, *keep) if column in columns]
        types = source.promoted(carried)
        widths = text_widths(source, carried) if kind == "fits" else {}
        run = _Run(task, source, columns, parts, chunk_size, workers or processors())
        with Output(parts.unfinished, kind, f"{name}_flag", types, widths, layout) as growing:
            scored = run.fill(growing, on_progress or (lambda *_: None), tell)
        parts.publish()
    return scored


@dataclass(frozen=True, eq=False)
class _Run:
    """The way from a source to an output."""

    task: Task
    source: Source
    columns: Sequence[str]
    parts: Parts
    chunk_size: int
    n_workers: int
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("read", "compute", "write"), 0.0)
    )

    def fill(
        self,
        output: Output,
        show: Callable[[str, int, int | None], None],
        tell: Callable[[str], None],
    ) -> Scored:
        """Take over finished parts, and score what is left."""
        place, skipped = Place(), []
        for part in self.parts.finished():
            output.add(part.table)
            place, skipped = part.end, [*part.skipped]
        show("galaxies", output.n_rows, self.source.n_rows)
        items = self._numbered(place, output.n_rows)
        for item, table, seconds in in_order(items, self._score, self.n_workers):
            if isinstance(item, Skipped):
                skipped.append(item.what)
                tell(f"skipped {item.what}")
                continue
            # An empty file tells nothing, and what is told is told once.
            if output.n_rows == 0 and len(item.table):
                self.task.remark(item, tell)
            self.seconds["compute"] += seconds
            with self._timed("write"):
                rows = output.conformed(table)
                output.add(rows)
                self.parts.add(rows, item.end, skipped)
            show("galaxies", output.n_rows, self.source.n_rows)
        if output.is_empty:
            msg = f"nothing could be read; the first reason: {skipped[0]}"
            raise InputError(msg)
        flagged = {FLAGS[bit]: count for bit, count in output.flagged.items() if count}
        return Scored(output.n_rows, flagged, tuple(skipped), self.seconds)

    def _numbered(self, place: Place, n_before: int) -> Iterator[tuple[Chunk | Skipped, int]]:
        """What the source gives, with the number of the first row in the output."""
        items = self.source.chunks(self.columns, self.chunk_size, place)
        while True:
            with self._timed("read"):
                item = next(items, None)
            if item is None:
                return
            yield item, n_before
            n_before += len(item.table) if isinstance(item, Chunk) else 0

    def _score(
        self, numbered: tuple[Chunk | Skipped, int]
    ) -> tuple[Chunk | Skipped, pa.Table | None, float]:
        item, first_row = numbered
        if isinstance(item, Skipped):
            return item, None, 0.0
        started = time.thread_time()
        table = self.task.score(item, first_row)
        return item, table, time.thread_time() - started

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.thread_time()
        yield
        self.seconds[what] += time.thread_time() - started


def _rows(source: Source) -> int:
    """Number of rows, or about so many where only reading them would tell."""
    if source.n_rows is not None:
        return source.n_rows
    return sum(file.path.stat().st_size for file in source.readable) // _BYTES_OF_ROW


def _fingerprint(task: Task, source: Source) -> dict[str, str]:
    """What the output depends on, each as a hash, so that two runs can be told apart."""
    survey, optional = task.survey.model_dump(mode="json"), task.model.optional_bands
    files = []
    for file in source.files:
        state = file.path.stat()
        files.append([str(file.path.absolute()), state.st_size, state.st_mtime_ns])
    versions = [photoz.__version__, np.__version__, pa.__version__, task.compiled is not None]
    return {
        "model": hashlib.sha256(_answers(task.model) + _json([optional])).hexdigest(),
        "survey": hashlib.sha256(_json(survey)).hexdigest(),
        "catalogue": hashlib.sha256(_json(files)).hexdigest(),
        "version of the software": hashlib.sha256(_json(versions)).hexdigest(),
    }


def _answers(model: FittedModel) -> bytes:
    """What the model says to some made-up galaxies: no other model says the same."""
    bands, extra = model.survey.bands, model.survey.extra
    generator = np.random.default_rng(0)
    flux = 10 ** generator.uniform(1, 5, (16, len(bands)))
    state = np.full(flux.shape, State.DETECTED, dtype=np.uint8)
    noise = generator.random((16, len(extra)))
    made_up = Photometry(bands, flux, 0.05 * flux, state, noise, extra)
    return model.predict_pdf(made_up).density.tobytes() + model.z_grid.tobytes()


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
