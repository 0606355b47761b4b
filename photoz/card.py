"""Card: what a model is good for, on which galaxies it was made, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from photoz.calibration import Calibration
from photoz.datasets import DATASETS
from photoz.errors import without_password
from photoz.evaluation import Evaluation
from photoz.outcome import Outcome
from photoz.photometry import State
from photoz.samples import Samples
from photoz.settings import Experiment

__all__ = ["CardSection", "CardTable", "ModelCard", "make_card"]

_METRICS = (
    "log_loss", "cde_loss", "crps", "sigma_nmad", "bias", "outlier_fraction", "pit_ks",
    "coverage_68", "coverage_95",
)  # fmt: skip

_USE = (
    "Redshift densities p(z) of galaxies measured in the bands {bands}, one by one, or stacked "
    "to the n(z) of samples that were selected by this photometry. Not for stars, for other "
    "photometric systems, or beyond the limits below, where photoz sets the flag 4. p(z) follows "
    "the galaxies that it was learned from: where those with a spectrum are not like the rest of "
    "the catalogue at equal photometry, neither is it."
)


@dataclass(frozen=True)
class CardTable:
    """A table of text: names of the columns, and rows of as many cells."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class CardSection:
    """A part of a card: title, text, and a table where there is one."""

    title: str
    text: str
    table: CardTable | None = None


@dataclass(frozen=True)
class ModelCard:
    """What a reader must know of a model before using it.

    Parameters
    ----------
    title
        Name of the experiment and of the estimator.
    sections
        Its parts, in order.
    """

    title: str
    sections: Sequence[CardSection]

    def to_markdown(self) -> str:
        """The card as text in Markdown."""
        parts = [f"# {self.title}"]
        for section in self.sections:
            parts += [f"## {section.title}", section.text]
            if section.table is not None:
                rows = [section.table.header, ["---"] * len(section.table.header)]
                lines = (f"| {' | '.join(row)} |" for row in (*rows, *section.table.rows))
                parts.append("\n".join(lines))
        return "\n\n".join(filter(None, parts)) + "\n"


def make_card(outcome: Outcome, experiment: Experiment, samples: Samples) -> ModelCard:
    """Card of a fitted model.

    Parameters
    ----------
    outcome
        The model with its evaluations.
    experiment, samples
        The experiment that made it, and its galaxies.
    """
    return ModelCard(
        f"{experiment.name}: {outcome.name}",
        [
            CardSection("Intended use", _USE.format(bands=", ".join(samples.survey.bands))),
            _data(experiment, samples),
            _split(experiment, samples),
            _metrics(outcome, samples),
            _limits(samples),
            _calibration(outcome),
            _bands(outcome),
        ],
    )


def _data(experiment: Experiment, samples: Samples) -> CardSection:
    table = experiment.catalogue
    if table.dataset is not None:
        known = DATASETS[table.dataset]
        what = f"{table.dataset}: {known.description}, from {known.package}."
        licence = f"Licence: {known.licence} (of that package)."
    else:
        what = without_password(", ".join((*(table.path or ()), *(table.test_path or ()))) + ".")
        licence = "Licence: not stated by the experiment; ask whoever gave the catalogue."
    left_out = ", ".join(f"{count} ({why})" for why, count in samples.dropped.items()) or "none"
    simulated = " The galaxies are simulated." if samples.is_simulated else ""
    text = f"{what}{simulated} {licence} Rows left out: {left_out}. sha256: `{samples.sha256}`."
    return CardSection("Data", text)


def _split(experiment: Experiment, samples: Samples) -> CardSection:
    sizes = samples.summary()
    by = experiment.split.by
    how = {"random": "at random, by a stable hash of each galaxy", "sky": "by cells of the sky"}
    dataset = experiment.catalogue.dataset
    is_official = dataset is not None and DATASETS[dataset].test is not None
    held_out = "an official test part" if is_official else "drawn"
    if experiment.catalogue.test_path:
        held_out = "a test file of their own"
    text = (
        f"{sizes['n_train']} training and {sizes['n_validation']} validation galaxies were "
        f"fitted; {sizes['n_test']} were held out from every fit, search and calibration "
        f"({held_out}). Split {how.get(by, f'by the column {by}')}, "
        f"seed {experiment.seed}, sha256: `{samples.split_sha256}`."
    )
    return CardSection("Split", text)


def _metrics(outcome: Outcome, samples: Samples) -> CardSection:
    rows = [
        [name, f"{outcome.test.metrics[name]:.4g}", _interval(outcome.test, name),
         f"{outcome.validation.metrics[name]:.4g}"]
        for name in _METRICS
    ]  # fmt: skip
    text = f"Of {len(samples.test)} held-out galaxies, and out of fold of the fitted ones."
    return CardSection("Metrics", text, CardTable(["", "held out", "95 %", "out of fold"], rows))


def _limits(samples: Samples) -> CardSection:
    photometry, z_spec = samples.fitted.photometry, samples.fitted.z_spec
    low, high = np.quantile(z_spec, [0.005, 0.995])
    text = (
        f"99 % of the fitted galaxies have redshifts from {low:.3f} to {high:.3f} (all: "
        f"{z_spec.min():.3f} to {z_spec.max():.3f}) and magnitudes as below; p(z) ends at "
        f"{samples.z_max:.3f}."
    )
    rows = []
    for k, band in enumerate(photometry.bands):
        magnitude = photometry.magnitude[:, k]
        known = magnitude[np.isfinite(magnitude)]
        ends = np.quantile(known, [0.005, 0.995]) if len(known) else ()
        shares = [
            f"{100 * np.mean(photometry.state[:, k] == state):.1f} %"
            for state in (State.NOT_DETECTED, State.NOT_OBSERVED)
        ]
        rows.append([band, " to ".join(f"{end:.2f}" for end in ends) or "none", *shares])
    table = CardTable(["band", "AB mag", "not detected", "not observed"], rows)
    return CardSection("Limits of validity", text, table)


def _calibration(outcome: Outcome) -> CardSection:
    calibration: Calibration | None = getattr(outcome.model, "calibration", None)
    if calibration is None:
        return CardSection("Calibration", "None.")
    worst, metrics = outcome.test.worst_cell, outcome.test.metrics
    local = (
        f"It is worst in {worst.condition} {worst.label}: {worst.metrics['coverage_68']:.3f} in "
        f"the central 68 % of {worst.n_galaxies} galaxies."
        if worst.miscoverage > 0
        else "In no cell of magnitude, colour, z_phot or missing bands is it off beyond chance."
    )
    kept = calibration.conformal
    claim = (
        "This is measured, not a finite-sample guarantee."
        if kept is None
        else f"Last come the ranks of {kept.n_galaxies} galaxies that nothing else has seen: on "
        "the mean over galaxies like those, intervals hold at least what they state."
    )
    text = (
        f"Learned from p(z) of {outcome.held_back.n_complete} fitted galaxies, each by a fit "
        f"that has not seen it. Held out, {metrics['coverage_68']:.3f} of the redshifts lie in "
        f"the central 68 % and {metrics['coverage_95']:.3f} in the central 95 % of p(z). {local} "
        f"{claim}"
    )
    return CardSection("Calibration", text)


def _bands(outcome: Outcome) -> CardSection:
    text = "Rise of the log loss when the measurements of one band are shuffled."
    rows = [
        [item.name, f"{item.log_loss:.3f} ± {item.standard_error:.3f}"]
        for item in outcome.importance
    ]
    return CardSection("What it relies on", text, CardTable(["band", "rise"], rows))


def _interval(evaluation: Evaluation, name: str) -> str:
    low, high = evaluation.intervals[name]
    return f"{low:.4g} to {high:.4g}"
