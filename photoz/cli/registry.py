"""Commands on what MLflow keeps: ui."""

from __future__ import annotations

from typing import Annotated

import typer

from photoz.cli.app import app

__all__ = ["ui"]


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow on the runs of this directory, for this machine only."""
    from photoz.tracking import page_address, serve

    typer.echo(f"MLflow: {page_address(port)}")
    serve(port)
