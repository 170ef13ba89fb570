"""Benchmarks that anyone can repeat: `python -m anomalib_sofs.benchmark TASK`."""
