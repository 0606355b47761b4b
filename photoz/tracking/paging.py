"""Paging: MLflow answers in pages, all of which are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["pages"]


def pages(search: Callable[..., Any], **options: Any) -> Iterator[Any]:  # noqa: ANN401
    """All results of a search of a client, page after page."""
    token = None
    while True:
        page = search(**options, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
