"""A progress bar for whoever looks: on standard error, gone once it is done. Only results go to standard output."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def shown(items: Iterable[T], title: str, total: int, *, quiet: bool = False) -> Iterable[T]:
    """Return the items, behind a progress bar where there is a screen.

    Args:
        items: What is gone through.
        title: What is done.
        total: How many there are.
        quiet: Whether to show none in any case.
    """
    console = Console(stderr=True)
    if quiet or not (console.is_terminal or console.is_jupyter):
        return items  # rich would print an empty line
    return track(items, title, total, transient=True, console=console)
