"""Markdown tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

PERCENT: Callable[[float], str] = lambda v: f"{100 * v:.1f}"  # noqa: E731
MISSING = "-"


def line(cells: Iterable[object]) -> str:
    """Return a row of a table."""
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table, the last one empty."""
    return [line(head), line(["---"] * len(head)), *(line(cells) for cells in lines), ""]


def origin(provenance: Mapping[str, Any]) -> list[str]:
    """Return the lines above every table: the command, and what else the results depend on."""
    spins = (
        ""
        if provenance["omp_wait_policy_passive"]
        else " OMP_WAIT_POLICY=PASSIVE was not set: times beside other programs are not reliable."
    )
    return [
        f"`{provenance['command']}`",
        "",
        f"Commit {provenance['commit'] or 'unknown'}, {provenance['machine']}; "
        + ", ".join(f"{name} {found}" for name, found in provenance["versions"].items())
        + f".{spins}",
        "",
    ]
