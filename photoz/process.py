"""Processes: whether one that left a mark still lives, and when this one may be interrupted."""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType

__all__ = ["is_gone", "process_name", "uninterrupted"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def process_name(pid: int) -> str | None:
    """Name of a living process that no later process of the same number shares.

    Parameters
    ----------
    pid
        Number of the process on this machine.

    Returns
    -------
    str or None
        Machine, number and, on Linux, the time it began; None if there is no such process.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it lives, under another user
    if not Path("/proc/self/stat").exists():
        return f"{platform.node()}:{pid}"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None  # it has ended since
    state, *numbers = stat.rpartition(")")[2].split()
    return None if state == "Z" else f"{platform.node()}:{pid}:{numbers[18]}"


def is_gone(name: str, *, one_machine: bool) -> bool:
    """Whether a process of this machine has ended.

    Parameters
    ----------
    name
        What `process_name` called it.
    one_machine
        Whether it ran on this machine for sure; then another machine's name is an earlier
        name of this one, as containers change theirs. Otherwise it is taken to live.
    """
    node, _, rest = name.partition(":")
    if node != platform.node():
        return one_machine
    return name != process_name(int(rest.partition(":")[0]))


@contextmanager
def uninterrupted() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Let a first signal to end this process wait until the block is done; not a second one.

    Python would raise `KeyboardInterrupt` in the midst of a transaction, and leave the
    database locked.

    Yields
    ------
    callable
        Makes a context within the block in which signals do not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield nullcontext  # Python handles signals in the main thread only
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if waiting and callable(handler):
            handler(number, frame)
        waiting.append(number)

    handled = [number for number, handler in before.items() if callable(handler)]

    def release() -> None:
        for number in handled:
            signal.signal(number, before[number])
        if waiting:
            signal.raise_signal(waiting.pop())

    def hold() -> None:
        for number in handled:
            signal.signal(number, wait)

    @contextmanager
    def interruptible() -> Iterator[None]:
        try:
            release()
            yield
        finally:
            hold()

    try:
        hold()
        yield interruptible
    finally:
        release()
