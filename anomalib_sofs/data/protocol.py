"""The fixed evaluation protocol: which support images a query gets."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def choose_support(
    others: Sequence[T], shot: int, *, seed: int, category: str, defect_class: str, query: str | Path
) -> list[T]:
    """Choose the support of a query among the other images of its class.

    One shot takes one index by ``randrange``, more shots draw with ``sample``; both depend only on the seed, the
    category, the class and the stem of the query's file, never on order of evaluation or number of workers.

    Args:
        others: The class's other images, sorted by file name.
        shot: Number of support images, at most ``len(others)``.
        seed: Protocol seed.
        category: Category (object) of the query.
        defect_class: Defect class of the query.
        query: The query's file.

    Returns:
        ``shot`` of the others.
    """
    generator = random.Random(f"{seed}/{category}/{defect_class}/{Path(query).stem}")  # noqa: S311 - reproducible
    if shot == 1:
        return [others[generator.randrange(len(others))]]
    return generator.sample(others, shot)
