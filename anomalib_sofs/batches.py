"""The type of anomalib's batches."""

from typing import Any

AnyBatch = Any
"""A batch on its way through Lightning's hooks: anomalib declares every field optional, but which ones are set is known
from the place, and episodes add fields of their own."""
