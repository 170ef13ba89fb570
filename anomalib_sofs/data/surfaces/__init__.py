# SPDX-License-Identifier: Apache-2.0
"""Synthetic industrial surfaces with defects and exact masks."""

from .render import SURFACES, defect_classes, render

__all__ = ["SURFACES", "defect_classes", "render"]
