# SPDX-License-Identifier: Apache-2.0
"""The classes of defect: maker, usual size, contrast and place."""

from . import areas, assembly, edges, lines, spots
from .family import Defect

DEFECTS: dict[str, Defect] = {
    # Lines.
    "scratch": Defect(lines.scratch, "line", (0.00025, 0.004), dark=0.4),
    "crack": Defect(lines.crack, "line", (0.0003, 0.004), dark=1.0, place="either"),
    "thread": Defect(lines.thread, "line", (0.0003, 0.004), dark=0.5, contrast=(0.12, 0.45), many=0.5),
    "fray": Defect(lines.fray, "line", (0.001, 0.01), dark=0.4, contrast=(0.1, 0.4), many=0.3, place="either"),
    "cut": Defect(lines.cut, "line", (0.0004, 0.004), dark=0.85, contrast=(0.1, 0.4), many=0.5),
    "crease": Defect(lines.crease, "line", (0.002, 0.01), dark=0.5, contrast=(0.06, 0.25), many=0.5),
    "flow": Defect(lines.flow, "line", (0.002, 0.015), dark=0.5, contrast=(0.05, 0.18), many=0.3),
    "dead_line": Defect(lines.dead_line, "line", (0.001, 0.004), dark=0.6, contrast=(0.07, 0.4), many=0.3),
    # Spots.
    "pit": Defect(spots.pit, "spot", (0.0001, 0.0018), dark=1.0, many=1.5),
    "blowhole": Defect(spots.blowhole, "spot", (0.0001, 0.003), dark=1.0, contrast=(0.06, 0.35), many=1.0),
    "hole": Defect(spots.hole, "spot", (0.00025, 0.006), dark=0.75, contrast=(0.15, 0.5), many=0.5),
    "dent": Defect(spots.dent, "relief", (0.0005, 0.008), contrast=(0.06, 0.3), many=0.6),
    "bump": Defect(spots.bump, "relief", (0.00025, 0.005), contrast=(0.07, 0.3), many=1.0),
    "inclusion": Defect(spots.inclusion, "spot", (0.0002, 0.005), dark=0.85, contrast=(0.06, 0.3), many=2.0),
    "spot": Defect(spots.spot, "spot", (0.00015, 0.005), many=1.5),
    "particle": Defect(spots.particle, "spot", (0.00015, 0.003), dark=0.5, contrast=(0.12, 0.45), many=1.0),
    "knot": Defect(spots.knot, "spot", (0.002, 0.02), dark=1.0, contrast=(0.12, 0.35), many=0.6),
    "bubble": Defect(spots.bubble, "spot", (0.0004, 0.006), dark=0.5, many=1.5),
    "rolled_in": Defect(spots.swarm, "area", (0.003, 0.02), dark=0.8, contrast=(0.1, 0.3), many=1.0),
    "missing": Defect(assembly.missing, "area", (0.002, 0.01), contrast=(0.15, 0.5), many=0.3, place="anchor"),
    "bridge": Defect(assembly.bridge, "spot", (0.0004, 0.003), dark=0.0, contrast=(0.15, 0.5), many=0.4, place="rim"),
    # Areas.
    "stain": Defect(areas.stain, "area", (0.004, 0.07), dark=0.75, contrast=(0.06, 0.25), many=0.5),
    "patch": Defect(areas.patch_area, "area", (0.008, 0.12), dark=0.75, contrast=(0.06, 0.28), many=0.8),
    "smear": Defect(areas.smear, "area", (0.006, 0.08), dark=0.5, contrast=(0.05, 0.2), many=0.3),
    "uneven": Defect(areas.uneven, "area", (0.04, 0.22), dark=0.5, contrast=(0.05, 0.18), many=0.0),
    "corrosion": Defect(areas.corrosion, "area", (0.002, 0.05), dark=0.75, contrast=(0.1, 0.3), many=1.0),
    "efflorescence": Defect(areas.corrosion, "area", (0.005, 0.06), dark=0.0, contrast=(0.08, 0.25), many=0.6),
    "wear": Defect(areas.wear, "area", (0.01, 0.12), dark=0.75, contrast=(0.07, 0.25), many=0.2),
    "flaking": Defect(areas.flaking, "area", (0.001, 0.03), dark=0.5, contrast=(0.12, 0.4), many=1.0),
    "distortion": Defect(areas.distortion, "area", (0.006, 0.04), contrast=(0.08, 0.25), many=0.3),
    "bent": Defect(areas.distortion, "area", (0.006, 0.05), contrast=(0.15, 0.35), many=0.2),
    "misprint": Defect(areas.misprint, "area", (0.0004, 0.006), dark=0.7, contrast=(0.12, 0.5), many=0.3),
    "clogged": Defect(assembly.clogged, "spot", (0.002, 0.02), dark=0.4, contrast=(0.15, 0.45), many=0.4),
    # Edges.
    "chip": Defect(edges.chip, "edge", (0.0004, 0.007), dark=0.4, contrast=(0.1, 0.35), many=0.6, place="edge"),
    "break": Defect(edges.break_out, "edge", (0.004, 0.05), dark=0.5, contrast=(0.12, 0.4), many=0.2, place="edge"),
    "burr": Defect(edges.burr, "edge", (0.0006, 0.008), dark=0.3, contrast=(0.1, 0.4), many=0.6, place="edge"),
}
