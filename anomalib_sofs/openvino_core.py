"""OpenVINO's one core of this process."""

from functools import cache

import openvino as ov


@cache
def core() -> ov.Core:
    """Return the core that everything here reads and compiles networks with; it lives as long as the process.

    On Linux the CPU device of each core that there is gives its thread another stack for signals, and the one before
    back when it is released. Of two that are released in the order in which they were made, the second gives back what
    the first has freed (seen with OpenVINO 2026.4): the next signal that Python handles, be it of a child that has
    ended or of Ctrl+C, would end the process with a segmentation fault.
    """
    return ov.Core()
