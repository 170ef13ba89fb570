"""VISION: samples per class, and masks that are drawn once."""

import os
from pathlib import Path

import pytest

from anomalib_sofs.annotations.coco import read_coco
from anomalib_sofs.annotations.mask_cache import MaskCache
from anomalib_sofs.data import VisionEpisodes

from . import trees
from .helpers_data import KWARGS, mask_of, rows_of


class TestVision:
    def test_gives_one_sample_per_image_and_class(self, tmp_path):
        module = VisionEpisodes(trees.vision(tmp_path), novel_categories=["Cable"], **KWARGS)
        assert rows_of(module, "Cable") == [
            ("a000.png", "break"),
            ("a000.png", "thunderbolt"),
            ("a001.png", "break"),
            ("a002.png", "good"),
            ("b000.png", "break"),
            ("b000.png", "thunderbolt"),
            ("b001.png", "break"),
            ("b002.png", "good"),
        ]
        assert (mask_of(module, "Cable", "a000.png", "break") == (trees.box() > 0)).all()
        runs = mask_of(module, "Cable", "a000.png", "thunderbolt")
        assert runs[:2, 0].all()
        assert runs.sum() == 2

    def test_normal_images_of_val_are_queries(self, tmp_path):
        module = VisionEpisodes(trees.vision(tmp_path), novel_categories=["Cable"], **KWARGS)
        module.setup()
        names = [Path(row.image_path).name for row, _, _ in module.test_data.episodes if row.label == "good"]
        assert names == ["b002.png"]

    def test_masks_are_drawn_once_and_again_after_a_change(self, tmp_path):
        def masks():
            return {path: path.stat().st_mtime_ns for path in tmp_path.glob(".anomalib_sofs/**/*.png")}

        trees.vision(tmp_path)
        module = VisionEpisodes(tmp_path, novel_categories=["Cable"], **KWARGS)
        module.samples_of("Cable")
        first = masks()
        assert len(first) == 6
        VisionEpisodes(tmp_path, novel_categories=["Cable"], **KWARGS).samples_of("Cable")
        assert masks() == first
        trees.coco(
            tmp_path / "Cable/train",
            [trees.annotation(i, 1, trees.polygon((0, 0, 3, 3))) for i in (0, 1)],
            {1: "break"},
            3,
            prefix="a",
        )
        assert mask_of(module, "Cable", "a000.png", "break").sum() == 9

    def test_cache_may_lie_elsewhere(self, tmp_path):
        root = trees.vision(tmp_path / "data")
        module = VisionEpisodes(root, cache_dir=tmp_path / "masks", novel_categories=["Cable"], **KWARGS)
        module.setup()
        assert not (root / ".anomalib_sofs").exists()
        assert list((tmp_path / "masks").rglob("*.png"))

    def test_read_only_root_uses_the_users_cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        root = trees.vision(tmp_path / "data")
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK or Path(path) != root)
        VisionEpisodes(root, novel_categories=["Cable"], **KWARGS).setup()
        assert not (root / ".anomalib_sofs").exists()
        assert list((tmp_path / "cache").rglob("*.png"))

    def test_two_processes_may_draw_at_once(self, tmp_path):
        file = trees.vision(tmp_path) / "Cable/train/_annotations.coco.json"

        def read():
            yield from read_coco(file, file.parent, tmp_path)

        def read_while_another_finishes():
            yield from read()
            MaskCache(tmp_path).samples(file, read)

        samples = MaskCache(tmp_path).samples(file, read_while_another_finishes)
        assert samples == MaskCache(tmp_path).samples(file, read)
        assert len(list((tmp_path / ".anomalib_sofs/train").iterdir())) == 1

    def test_failed_reading_leaves_nothing_behind(self, tmp_path):
        trees.vision(tmp_path)
        (tmp_path / "Cable/train/a000.png").unlink()
        module = VisionEpisodes(tmp_path, novel_categories=["Cable"])
        for _ in range(2):
            with pytest.raises(ValueError, match=r"a000\.png does not exist"):
                module.samples_of("Cable")
        assert not list(tmp_path.glob(".anomalib_sofs/**/*.*"))
