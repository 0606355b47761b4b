"""Pipeline: read, compute and hand on at the same time, in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    items: Iterator[Item], work: Callable[[Item], Result], n_workers: int
) -> Iterator[Result]:
    """Apply a function to items in several threads; the results come in the items' order.

    One thread takes the items, `n_workers` threads work on them, and the caller's own thread
    is free for what it does with the results. No more than a few items for each worker are
    under way, so that memory does not grow with their number.

    Parameters
    ----------
    items
        What to work on; taken one by one.
    work
        Function of an item; it should leave Python's lock alone for most of its time.
    n_workers
        Number of threads that work.

    Yields
    ------
    Result
        What `work` returned.
    """
    waiting: deque[Future[Result | None]] = deque()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(n_workers) as workers:

        def start() -> None:
            # The reader has a single thread, so the items come in order.
            item: Future[Item | None] = reader.submit(next, items, None)
            waiting.append(workers.submit(_work, work, item))

        try:
            for _ in range(2 * n_workers + 2):
                start()
            while (result := waiting.popleft().result()) is not None:
                start()
                yield result
        finally:
            for future in waiting:
                future.cancel()


def _work(work: Callable[[Item], Result], item: Future[Item | None]) -> Result | None:
    value = item.result()
    return None if value is None else work(value)
