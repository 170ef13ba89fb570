"""Types of arguments: a wrong value is refused with the argument's name, at parse time and from Python alike.

Values from the command line are instances of these types, which ``torch.load(weights_only=True)`` and pickled exports
do not know: :func:`checked` gives them back as plain numbers and strings.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:  # whoever calls from Python passes plain numbers and paths
    ClosedUnitInterval = float
    NonNegativeInt = int
    OpenUnitInterval = float
    PositiveFloat = float
    PositiveInt = int
    ExistingFile = str | Path
    ExistingFolder = str | Path
    ExistingPath = str | Path
else:
    from jsonargparse.typing import (
        ClosedUnitInterval,
        NonNegativeInt,
        OpenUnitInterval,
        PositiveFloat,
        PositiveInt,
        extend_base_type,
    )

    def _folder(_: type, value: str | Path) -> None:
        if not Path(value).is_dir():
            found = "is a file" if Path(value).is_file() else "does not exist"
            msg = f"the folder {value} {found}"
            raise ValueError(msg)

    def _file(_: type, value: str | Path) -> None:
        if not Path(value).is_file():
            found = "is a folder" if Path(value).is_dir() else "does not exist"
            msg = f"the file {value} {found}"
            raise ValueError(msg)

    def _path(_: type, value: str | Path) -> None:
        if not Path(value).exists():
            msg = f"the file or folder {value} does not exist"
            raise ValueError(msg)

    # not jsonargparse's own path types: those take a path in a configuration file from that file's folder, while every
    # other path of anomalib starts from the current one
    ExistingFolder = extend_base_type("ExistingFolder", str, _folder)
    ExistingFile = extend_base_type("ExistingFile", str, _file)
    ExistingPath = extend_base_type("ExistingPath", str, _path)

__all__ = [
    "ClosedUnitInterval",
    "ExistingFile",
    "ExistingFolder",
    "ExistingPath",
    "NonNegativeInt",
    "OpenUnitInterval",
    "PositiveFloat",
    "PositiveInt",
    "checked",
    "one_of",
]


def checked(name: str, value: Any, kind: Any) -> Any:
    """Return a value as a plain number or string.

    Args:
        name: Of the argument.
        value: What was passed; ``None`` is returned as it is.
        kind: One of the types of this module.

    Raises:
        ValueError: If the value is not of that kind, naming the argument.
    """
    if value is None:
        return None
    try:
        conforming = kind(value)
    except (TypeError, ValueError) as error:
        msg = f"{name}={value!r} is not possible: {error}."
        raise ValueError(msg) from None
    return next(plain(conforming) for plain in (int, float, str) if isinstance(conforming, plain))


def one_of(name: str, value: str, choices: Any) -> str:
    """Return one of the strings of a ``Literal``.

    Raises:
        ValueError: If it is none of them, naming the argument.
    """
    if value not in get_args(choices):
        msg = f"{name}={value!r} is not possible: choose one of {', '.join(map(repr, get_args(choices)))}."
        raise ValueError(msg)
    return str(value)


SupportSelection = Literal["first", "random"]
