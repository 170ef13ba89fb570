"""Names that mean something to everybody who reads annotations."""

NORMAL = "good"
"""The class of normal images, MVTec AD's name for them."""
DEFECT = "defect"
"""The class of masks that do not name any."""
IGNORE = 255
"""Value of mask pixels that are neither defect nor background: they count for nothing."""
