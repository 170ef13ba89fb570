"""Names and values that mean something to everybody who reads annotations."""

NORMAL = "good"
"""The class of normal images, MVTec AD's name for them."""
DEFECT = "defect"
"""The class of masks that do not name any."""
IGNORE = 255
"""The value of pixels that count neither as defect nor as normal, in masks of {0, 1, 255}."""

NORMAL_NAMES = frozenset({NORMAL, "normal", "ok"})


def is_normal_name(name: str) -> bool:
    """Tell whether a folder or class of this name holds normal images: ``good``, ``normal`` or ``ok`` in any case."""
    return name.strip().lower() in NORMAL_NAMES
