"""The command ``photoz``: experiments, catalogues, and what MLflow keeps of them."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from types import TracebackType
from typing import Annotated, NoReturn

# LightGBM and torch read this when they are imported: without it their threads wait busily.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import typer

import photoz
from photoz.cli import catalogues, experiments, registry
from photoz.cli.app import ERR, OUT, app
from photoz.errors import InputError, without_password

__all__ = ["app", "catalogues", "experiments", "main", "registry"]

_WRONG_INPUT = 2
_FAILURE = 1
_SIGNALLED = 128
_EXTRAS = {
    "torch": "network",
    "optuna": "search",
    "mlflow": "track",
    "matplotlib": "report",
    "jinja2": "report",
    "qp": "qp",
    "psycopg": "postgres",
}


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        OUT.print(photoz.__version__)
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; exit with 2 for wrong input, 1 for a failure, 0 otherwise."""
    logging.setLogRecordFactory(_Record)
    try:
        app()
    except InputError as error:
        _fail(error)
        sys.exit(_WRONG_INPUT)
    except (RuntimeError, OSError, MemoryError) as error:
        _fail(error)
        sys.exit(_FAILURE)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        _fail(InputError(_missing(package)))
        sys.exit(_WRONG_INPUT)
    except SystemExit as ended:
        if isinstance(ended.code, int) and ended.code > _SIGNALLED:
            ERR.print(
                "interrupted; the same command goes on where it stopped (predict: with --resume)"
            )
        raise
    finally:
        sys.excepthook = _show_traceback  # typer has put its own
    sys.exit(0)


class _Record(logging.LogRecord):
    """What any library logs, without passwords."""

    def getMessage(self) -> str:  # noqa: N802 - logging's own name
        return without_password(super().getMessage())


def _missing(package: str) -> str:
    """What to do where a package is not installed."""
    return (
        f"this needs the package {package}, found none; pip install 'photoz[{_EXTRAS[package]}]', "
        "or 'photoz[train]' for all that experiments need."
    )


def _show_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Show where an error came from that nobody foresaw, without passwords."""
    sys.stderr.write(without_password("".join(traceback.format_exception(kind, error, trace))))


def _fail(error: BaseException) -> None:
    one_line = without_password(" ".join(str(error).split())) or type(error).__name__
    ERR.print(f"photoz: {one_line}", style="red", markup=False, highlight=False, soft_wrap=True)
