"""In the `anomalib` script, what a user did wrong is said in one paragraph instead of a screenful of code."""

import dis
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

PROGRAMS = frozenset({"anomalib", "anomalib.exe", "anomalib-script.py"})
RAISE = dis.opmap["RAISE_VARARGS"]
PACKAGE = __name__.partition(".")[0]


def in_anomalib_script() -> bool:
    """Whether the program is the `anomalib` script; `anomalib benchmark` shows the errors of its jobs itself."""
    return Path(sys.argv[0]).name in PROGRAMS and sys.argv[1:2] != ["benchmark"]


def install() -> None:
    """Show our own errors by their message alone, if the program is the `anomalib` script; all others as before."""
    if in_anomalib_script() and not isinstance(sys.excepthook, MessageHook):
        sys.excepthook = MessageHook(sys.excepthook)


@contextmanager
def as_message() -> Iterator[None]:
    """End the `anomalib` script with the message of an error that we raise in a constructor.

    jsonargparse, which calls constructors, would wrap it into a list of all arguments.
    """
    try:
        yield
    except Exception as error:
        message = user_message(error)
        if message is None or not in_anomalib_script():
            raise
        sys.exit(f"error: {message}")


class MessageHook:
    """An exception hook that knows the errors that this package raises itself.

    Args:
        before: The hook that shows everything else.
    """

    def __init__(self, before: object) -> None:
        self.before = before

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Print the message of an error that we raised, or hand the error on."""
        message = user_message(error)
        if message is None:
            self.before(kind, error, trace)  # type: ignore[operator]
        else:
            sys.stderr.write(f"error: {message}\n")


def user_message(error: BaseException) -> str | None:
    """Return the message of an error that this package raised on purpose, also where another one was raised from it."""
    for cause in _causes(error):
        if isinstance(cause, Exception) and _raised_by_us(cause.__traceback__):
            return str(cause)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        yield current
        seen.append(current)
        current = current.__cause__


def _raised_by_us(trace: TracebackType | None) -> bool:
    """Whether the innermost frame is ours and ran a ``raise`` statement, not an operation that failed."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = str(trace.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] == PACKAGE and trace.tb_frame.f_code.co_code[trace.tb_lasti] == RAISE
