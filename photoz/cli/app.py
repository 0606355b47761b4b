"""What all commands share: the application, its output, options and progress bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# Libraries that take seconds to import are imported by the command that needs them.
if TYPE_CHECKING:
    from photoz.blend import PhotozBlend
    from photoz.model import PhotozModel

__all__ = [
    "ERR",
    "OUT",
    "AsJson",
    "Bars",
    "Quiet",
    "SurveyOption",
    "app",
    "load_fitted",
    "progress_bars",
    "warn",
]

app = typer.Typer(
    name="photoz",
    help="Photometric redshifts with calibrated p(z).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# Texts between colons, in paths and addresses, are no emoji.
OUT = Console(emoji=False)
ERR = Console(stderr=True, emoji=False)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SurveyOption = Annotated[
    str | None,
    typer.Option("--survey", help="Survey name or TOML, where the columns are called otherwise."),
]


def load_fitted(model: str) -> PhotozModel | PhotozBlend:
    """The model of a bundle, or of MLflow's registry, checked by its golden rows."""
    from photoz.bundle import load_model

    if model.startswith("models:/"):
        from photoz.tracking import fetch_bundle

        return load_model(fetch_bundle(model), verify=True)
    return load_model(model, verify=True)


def warn(text: str) -> None:
    """Say on standard error what a user should know."""
    ERR.print(f"photoz: {text}", markup=False, highlight=False, soft_wrap=True)


class RateColumn(ProgressColumn):
    """How many are done per second."""

    def render(self, task: Task) -> Text:
        """Rate of a bar, empty as long as it is not known."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def progress_bars(*, quiet: bool, rate: bool = False) -> Progress:
    """Progress bars on standard error, where that is a terminal; with rate and time left."""
    speed = [RateColumn(), TimeRemainingColumn()] if rate else []
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *speed,
        console=ERR,
        disable=quiet or not ERR.is_terminal,
    )


class Bars:
    """One progress bar for each thing that is counted."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Say that `done` of `total` are done; without a total the end is not known."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what, total=total, completed=done)
        self.progress.update(self.tasks[what], completed=done, total=total)
