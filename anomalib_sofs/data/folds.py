"""Published splits of the benchmarks into thirds: the categories that are novel in each fold."""

from collections.abc import Mapping, Sequence

Folds = Mapping[int, Sequence[str]]

MVTEC_AD: Folds = {
    0: ("toothbrush", "grid", "cable", "metal_nut", "tile"),
    1: ("pill", "leather", "carpet", "hazelnut", "transistor"),
    2: ("capsule", "screw", "wood", "zipper", "bottle"),
}
"""The thirds that the published Defect Spectrum protocol uses."""

VISA: Folds = {
    0: ("candle", "capsules", "cashew", "chewinggum"),
    1: ("fryum", "macaroni1", "macaroni2", "pcb1"),
    2: ("pcb2", "pcb3", "pcb4", "pipe_fryum"),
}
"""The twelve categories in name order."""

VISION: Folds = {
    0: ("PCB_1", "Hemisphere", "Wood", "Ring", "Cable"),
    1: ("Casting", "Capacitor", "PCB_2", "Electronics", "Console"),
    2: ("Groove", "Lens", "Screw", "Cylinder"),
}
"""Zhang et al. 2024 on VISION V1."""

DEFECT_SPECTRUM: Folds = {
    0: (*MVTEC_AD[0], "Screw", "Ring", "Capacitor"),
    1: (*MVTEC_AD[1], "Wood", "Console"),
    2: (*MVTEC_AD[2], "Groove", "DAGM", "Cotton-Fabric"),
}
"""Zhang et al. 2024 on Defect Spectrum; capitalised names are VISION's, so ``Wood`` is not MVTec's ``wood``."""


def novel_in(fold: int, folds: Folds) -> list[str]:
    """Return the novel categories of a fold.

    Raises:
        ValueError: If there is no such fold.
    """
    if fold not in folds:
        there_are = f"There are folds {', '.join(map(str, folds))}" if folds else "This dataset has no published folds"
        msg = f"No fold {fold}. {there_are}; novel_categories makes a split of your own."
        raise ValueError(msg)
    return list(folds[fold])
