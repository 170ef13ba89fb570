"""VisA: kinds of defect beside what anomalib converts."""

import logging

import pytest

from anomalib_sofs.data import VisaEpisodes

from . import trees
from .helpers_data import KWARGS


class TestVisa:
    def test_converts_and_names_the_first_kind(self, tmp_path):
        trees.visa_raw(tmp_path, "candle", ["chunk of wax missing,other", "other", "chunk of wax missing", "other"])
        module = VisaEpisodes(tmp_path, novel_categories=["candle"], **KWARGS)
        module.prepare_data()
        module.setup()
        assert module.list_categories() == ["candle"]
        assert module.class_names == ["candle/chunk of wax missing", "candle/other"]
        query = module.test_data[0]
        assert query.gt_mask.sum() > 0
        assert query.defect_class == "chunk of wax missing"

    def test_has_one_class_without_the_raw_data(self, tmp_path):
        trees.visa_raw(tmp_path, "candle", ["a", "b"])
        VisaEpisodes(tmp_path, novel_categories=["candle"]).prepare_data()
        (tmp_path / "candle/image_anno.csv").unlink()
        module = VisaEpisodes(tmp_path, novel_categories=["candle"], **KWARGS)
        module.setup()
        assert module.class_names == ["candle/bad"]

    def test_leaves_out_kinds_that_are_too_few(self, tmp_path, caplog):
        trees.visa_raw(tmp_path, "candle", ["a", "a", "b"])
        module = VisaEpisodes(tmp_path, novel_categories=["candle"], **KWARGS)
        module.prepare_data()
        with caplog.at_level(logging.WARNING):
            module.setup()
        assert module.class_names == ["candle/a"]
        assert "image_anno.csv: left out classes with fewer than 2 images" in caplog.text
        assert "'b' (1)" in caplog.text

    def test_image_without_a_row_is_named(self, tmp_path):
        trees.visa_raw(tmp_path, "candle", ["a", "a"])
        VisaEpisodes(tmp_path, novel_categories=["candle"]).prepare_data()
        trees.visa_raw(tmp_path, "candle", ["a"])
        with pytest.raises(ValueError, match=r"image_anno\.csv has no row for 001\.JPG"):
            VisaEpisodes(tmp_path, novel_categories=["candle"]).setup()
