"""Progress: the steps of some fits, counted together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock

from photoz.estimators.base import OnStep

__all__ = ["OnProgress", "Tell", "steps_of"]

Tell = Callable[[int, int], None]
"""Called with how many steps are done, and how many there are."""

OnProgress = Callable[[str, int, int | None], None]
"""Called with what is counted, how many are done and, if known, out of how many."""


@contextmanager
def steps_of(
    n_fits: int, n_steps: int | None, tell: Tell | None
) -> Iterator[Sequence[OnStep | None]]:
    """What each of some fits is to tell its steps to, so that they are told together.

    Parameters
    ----------
    n_fits
        Number of fits; they may run side by side.
    n_steps
        Steps of each; None tells nothing.
    tell
        Called with the steps of all fits.
    """
    if tell is None or n_steps is None:
        yield [None] * n_fits
        return
    done, planned, lock = [0] * n_fits, n_fits * n_steps, Lock()

    def on_step(fit: int, step: int, _loss: float) -> None:
        with lock:
            done[fit] = step
            tell(sum(done), planned)

    tell(0, planned)
    yield [partial(on_step, fit) for fit in range(n_fits)]
    tell(planned, planned)
