"""Exports: graphs with a loop over windows, checked against PyTorch before they appear under their name."""

# first: anomalib's models bring ours along (the start-up hook), which need the modules of this package whole
import anomalib.models  # noqa: F401
