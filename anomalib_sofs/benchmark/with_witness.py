"""The full model with the test images as witness: a transductive row of its own beside the plain one."""

from dataclasses import dataclass
from typing import Any

from pandas import DataFrame

from anomalib_sofs.model.encoding import SupportEncoding
from anomalib_sofs.model.witness import Witness

from .arguments import BenchmarkError
from .methods import Method


@dataclass
class WitnessMethod(Method):
    """A method that knows what is usual among the images that it searches.

    Args:
        witness: What they show.
    """

    witness: Witness

    def support(self, item: Any) -> SupportEncoding:
        """Encode the support of an episode, beside what is usual."""
        return self.witness.beside(super().support(item), str(item.image_path))


def witness_of(method: Method, table: DataFrame) -> Witness:
    """Let all test images of a category show what is usual: once, for every seed and number of shots.

    Args:
        method: The full model.
        table: The samples of the category.

    Raises:
        BenchmarkError: If the model cannot tell what is usual.
    """
    try:
        return Witness(method.model, table[table["split"] == "test"]["image_path"].astype(str).tolist())
    except ValueError as error:
        msg = f"--witness: {error} The packaged one: --weights relation."
        raise BenchmarkError(msg) from error


def with_witness(method: Method, witness: Witness) -> Method:
    """Return a method that compares its queries with what is usual."""
    return WitnessMethod(f"{method.name}+witness", method.model, method.encode, witness)
