"""The one exception that means: the input is wrong, not the program."""

import re

__all__ = ["InputError", "without_password"]


_SECRETS = "password|passwd|pwd|token|secret"


class InputError(ValueError):
    """What was given cannot be used.

    The message says what was expected, what was found and what to do. The command line
    shows it as one line, without a traceback, and exits with status 2.
    """


def without_password(text: str) -> str:
    """Text in which no URL, and no setting, shows who logs in, nor with which password.

    Examples
    --------
    >>> without_password("postgresql://me:secret@host/photoz?password=secret")
    'postgresql://***@host/photoz?password=***'
    """
    # A password may hold an @ itself, so everything up to the last one goes.
    text = re.sub(r"(?<=://)[^\s'\"]*@", "***@", text)
    text = re.sub(rf"(?i)({_SECRETS})=('[^']*'|\"[^\"]*\"|[^&\s'\"]+)", r"\1=***", text)
    # As JSON and Python write the keys of a dictionary.
    return re.sub(rf"(?i)((['\"])\w*(?:{_SECRETS})\2\s*:\s*)(['\"]).*?\3", r"\1\3***\3", text)
