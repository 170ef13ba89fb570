"""Benchmarks that anyone can repeat: `python -m anomalib_sofs.benchmark TASK`."""

import os

# before torch is loaded, which reads it then: idle threads sleep, since spinning ones slow down everything beside them
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
