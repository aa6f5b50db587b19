"""The program's entry point. An interrupt while modules are loaded ends it silently."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it prints a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from retrainer.cli import program  # noqa: PLC0415  slow to import

    program.main()


if __name__ == "__main__":
    main()
