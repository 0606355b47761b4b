"""The command ``photoz``: data, experiment, predict, evaluate, export, report, ui."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

# LightGBM and torch read this when they are imported: without it their threads wait busily.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import typer

import photoz
from photoz.cli import catalogues, experiments, registry
from photoz.cli.app import ERR, OUT, app
from photoz.errors import InputError

__all__ = ["app", "catalogues", "experiments", "main", "registry"]

_WRONG_INPUT = 2
_FAILURE = 1
_INTERRUPTED = 130


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        OUT.print(photoz.__version__)
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; exit with 2 for wrong input, 1 for a failure, 0 otherwise."""
    try:
        app()
    except InputError as error:
        _fail(error)
        sys.exit(_WRONG_INPUT)
    except (RuntimeError, OSError, MemoryError) as error:
        _fail(error)
        sys.exit(_FAILURE)
    except KeyboardInterrupt:
        ERR.print(
            "interrupted; the same command goes on where it stopped (predict: with --resume)"
        )
        sys.exit(_INTERRUPTED)
    sys.exit(0)


def _fail(error: BaseException) -> None:
    one_line = " ".join(str(error).split()) or type(error).__name__
    ERR.print(f"photoz: {one_line}", style="red", markup=False, highlight=False, soft_wrap=True)
