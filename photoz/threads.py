"""Threads: a library's own threads held back where they would only be in each other's way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

from threadpoolctl import ThreadpoolController

__all__ = ["OneThread", "one_blas_thread"]


class OneThread:
    """A library's number of threads, which is the whole process's: kept at one while anyone asks.

    Those who ask may do so side by side; the last that ends gives the threads back.

    Parameters
    ----------
    limit
        Lets the library use one thread, and returns what gives it back those it had.
    """

    def __init__(self, limit: Callable[[], Callable[[], None]]) -> None:
        self._limit = limit
        self._lock = Lock()
        self._n_users = 0
        self._give_back: Callable[[], None] = lambda: None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """One thread, as long as the context lasts."""
        with self._lock:
            if self._n_users == 0:
                self._give_back = self._limit()
            self._n_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_users -= 1
                if self._n_users == 0:
                    self._give_back()


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _limit_blas() -> Callable[[], None]:
    limited = _libraries().limit(limits=1, user_api="blas")
    give_back: Callable[[], None] = limited.restore_original_limits
    return give_back


one_blas_thread = OneThread(_limit_blas)
"""Context in which numpy's matrix products take one thread: small ones gain nothing from more."""
