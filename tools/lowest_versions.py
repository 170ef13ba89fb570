"""Print the lowest versions that the package asks for, as constraints for pip: python tools/lowest_versions.py."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def lowest(requirements: list[str]) -> list[str]:
    """Turn ``NAME>=VERSION`` into ``NAME==VERSION``; every dependency has a lower bound."""
    found = []
    for requirement in map(Requirement, requirements):
        (bound,) = (one for one in requirement.specifier if one.operator in {">=", "=="})
        found.append(f"{requirement.name}=={bound.version}")
    return found


if __name__ == "__main__":
    print("\n".join(lowest(tomllib.loads(PROJECT.read_text())["project"]["dependencies"])))
