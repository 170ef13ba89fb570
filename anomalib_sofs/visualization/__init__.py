"""Pictures of what was found; machine-readable results are :mod:`anomalib_sofs.results`."""
