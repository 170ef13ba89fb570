"""A benchmark that anyone can repeat: `python -m anomalib_sofs.benchmark fss|fad`."""
