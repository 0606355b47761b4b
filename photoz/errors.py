"""The one exception that means: the input is wrong, not the program."""

import re

__all__ = ["InputError", "without_password"]


class InputError(ValueError):
    """What was given cannot be used.

    The message says what was expected, what was found and what to do. The command line
    shows it as one line, without a traceback, and exits with status 2.
    """


def without_password(text: str) -> str:
    """Text in which no URL shows who logs in, nor with which password.

    Examples
    --------
    >>> without_password("postgresql://me:secret@host/photoz?password=secret")
    'postgresql://***@host/photoz?password=***'
    """
    # A password may hold an @ itself, so everything up to the last one goes.
    text = re.sub(r"(?<=://)[^\s'\"]*@", "***@", text)
    return re.sub(r"(?i)(password|passwd|pwd|token|secret)=[^&\s'\"]+", r"\1=***", text)
