"""``python -m photoz`` is the same as the command ``photoz``."""

from photoz.cli import main

main()
