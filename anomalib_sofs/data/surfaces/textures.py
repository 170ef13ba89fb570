# SPDX-License-Identifier: Apache-2.0
"""The kinds of surface: name, painter, and the defects that occur on it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from numpy.random import Generator

from . import fibres, metals, minerals, objects, parts, shapes, sheets
from .scene import Canvas, Scene

Painter: TypeAlias = Callable[[Generator, Generator, Canvas], Scene]


@dataclass(frozen=True)
class Kind:
    """One kind of surface.

    Attributes:
        paint: Paints it: generator of the style, generator of the instance, canvas.
        defects: Names of the defect classes it can have.
        extras: Names of the harmless things seen on it.
        views: Framings of the part that show its edge.
    """

    paint: Painter
    defects: tuple[str, ...]
    extras: tuple[str, ...]
    views: tuple[str, ...]


def _kind(paint: Painter, defects: str, extras: str, views: str = "side plate") -> Kind:
    """Return a kind from names parted by blanks."""
    return Kind(paint, tuple(defects.split()), tuple(extras.split()), tuple(views.split()))


KINDS: dict[str, Kind] = {
    "brushed_metal": _kind(
        metals.brushed_metal,
        "scratch dent pit stain smear corrosion inclusion spot bump chip",
        "dust bolt print groove glare",
        "side plate disc",
    ),
    "ground_steel": _kind(
        metals.ground_steel,
        "scratch inclusion patch pit crack corrosion uneven smear spot rolled_in",
        "dust haze print glare",
        "side bar",
    ),
    "machined": _kind(
        metals.machined,
        "scratch dent pit chip corrosion blowhole particle stain burr",
        "bolt dust groove glare",
        "side plate disc",
    ),
    "casting": _kind(
        metals.casting,
        "blowhole crack pit inclusion break corrosion hole bump patch",
        "bolt groove emboss dust",
        "side plate disc bar",
    ),
    "coated_sheet": _kind(
        metals.coated_sheet,
        "scratch bump dent flaking spot stain particle thread uneven crack",
        "dust glare print groove bolt",
    ),
    "galvanised": _kind(
        metals.galvanised, "scratch stain corrosion patch dent particle spot crack", "dust print haze", "side"
    ),
    "perforated": _kind(
        metals.perforated, "bent break corrosion thread stain particle clogged scratch", "dust haze glare"
    ),
    "foil": _kind(metals.foil, "hole cut spot stain scratch particle smear", "glare print", "side disc"),
    "woven_fabric": _kind(
        fibres.woven_fabric,
        "hole cut thread fray stain spot distortion patch crease particle",
        "dust print haze stitch",
        "side side bar",
    ),
    "knit": _kind(fibres.knit, "hole thread fray stain distortion spot cut particle", "dust stitch haze", "side"),
    "felt": _kind(fibres.felt, "hole cut thread stain particle crease uneven spot fray", "haze stitch dust"),
    "leather": _kind(
        fibres.leather, "scratch cut crease hole stain fray particle spot wear", "stitch haze emboss", "side side plate"
    ),
    "wood": _kind(
        fibres.wood, "knot crack scratch hole stain chip dent spot patch", "dust bolt print haze", "side bar plate"
    ),
    "particle_board": _kind(
        fibres.particle_board, "scratch stain chip hole dent crack particle spot bump", "dust print bolt"
    ),
    "paper": _kind(sheets.paper, "hole stain crease thread spot cut misprint break smear particle", "dust print haze"),
    "ceramic": _kind(
        minerals.ceramic,
        "crack chip spot scratch stain pit bump break misprint thread",
        "glare dust haze",
        "side plate disc",
    ),
    "ferrite": _kind(
        minerals.ferrite,
        "blowhole break crack wear uneven chip scratch stain inclusion",
        "dust haze groove",
        "side bar plate",
    ),
    "concrete": _kind(
        minerals.concrete, "crack hole stain break patch corrosion pit efflorescence", "dust groove haze", "side"
    ),
    "terrazzo": _kind(minerals.terrazzo, "crack stain hole scratch spot smear chip patch", "dust groove glare"),
    "rubber": _kind(
        minerals.rubber,
        "cut bump scratch dent chip particle smear uneven hole burr",
        "emboss dust haze groove",
        "side bar disc plate",
    ),
    "plastic": _kind(
        minerals.plastic,
        "scratch bump spot smear dent burr crack particle misprint flow uneven",
        "print emboss bolt glare dust",
        "side plate disc",
    ),
    "glass": _kind(
        minerals.glass,
        "scratch bubble crack chip smear particle thread spot uneven dead_line",
        "glare dust print",
        "side plate disc",
    ),
    "board": _kind(
        objects.board,
        "missing bridge scratch stain crack particle thread spot bump misprint smear",
        "dust print bolt glare",
    ),
    "array_of_parts": _kind(
        objects.array_of_parts, "missing scratch spot dent crack bump chip particle smear misprint", "dust glare haze"
    ),
    "tablets": _kind(parts.tablets, "break crack spot chip stain scratch pit particle bump", "dust haze"),
    "ring": _kind(parts.ring, "chip break scratch dent stain crack corrosion burr particle", "dust glare"),
    "kernel": _kind(parts.kernel, "hole crack spot break scratch stain patch particle bump", "dust haze"),
    "cable": _kind(parts.cable, "cut hole particle scratch spot break stain dent", "dust haze"),
    "rod": _kind(shapes.rod, "scratch dent chip crack corrosion stain spot burr particle bump", "dust print glare"),
    "bracket": _kind(
        shapes.bracket,
        "scratch crack blowhole chip break burr corrosion stain dent particle spot",
        "dust print emboss bolt",
    ),
    "bristles": _kind(shapes.bristles, "bent thread particle spot stain cut smear", "dust haze glare"),
}
