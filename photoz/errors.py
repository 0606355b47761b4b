"""The one exception that means: the input is wrong, not the program."""

__all__ = ["InputError"]


class InputError(ValueError):
    """What was given cannot be used.

    The message says what was expected, what was found and what to do. The command line
    shows it as one line, without a traceback, and exits with status 2.
    """
