"""Warnings that are said once, however often a file is read."""

import logging

logger = logging.getLogger(__name__)

_said: set[str] = set()


def warn_once(about: object, message: str, *values: object) -> None:
    """Log a warning unless the same one was logged about the same file or folder before.

    Args:
        about: The file or folder.
        message: The warning, with ``%`` places for the values.
        values: What is put there.
    """
    key = f"{about}|{message}"
    if key not in _said:
        _said.add(key)
        logger.warning(message, *values)
