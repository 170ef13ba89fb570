"""Defect Spectrum: class numbers, their names, and what is said about bad input."""

import pytest

from anomalib_sofs.data import DefectSpectrumEpisodes

from . import trees
from .helpers_data import KWARGS, mask_of, rows_of


class TestDefectSpectrum:
    def test_lists_the_objects_of_all_subsets(self, tmp_path):
        module = DefectSpectrumEpisodes(trees.defect_spectrum(tmp_path), novel_categories=["bottle"])
        assert module.list_categories() == ["Cotton-Fabric", "DAGM", "Wood", "bottle", "wood"]

    def test_splits_masks_by_class_number(self, tmp_path):
        module = DefectSpectrumEpisodes(trees.defect_spectrum(tmp_path), novel_categories=["bottle"], **KWARGS)
        assert rows_of(module, "bottle") == [
            ("000.png", "broken_large"),
            ("000.png", "contamination"),
            ("000.png", "good"),
            ("001.png", "broken_large"),
            ("001.png", "contamination"),
            ("002.png", "broken_large"),
            ("002.png", "contamination"),
        ]
        assert mask_of(module, "bottle", "001.png", "contamination").sum() == 16
        assert (mask_of(module, "bottle", "001.png", "broken_large") == (trees.box() > 0)).all()

    def test_reads_every_subset(self, tmp_path):
        module = DefectSpectrumEpisodes(
            trees.defect_spectrum(tmp_path), novel_categories=["Wood", "DAGM", "Cotton-Fabric"], **KWARGS
        )
        module.setup()
        assert module.class_names == ["Cotton-Fabric/texture", "DAGM/scratch", "Wood/point"]
        assert sorted(module.train_data.crops.normals) == ["bottle", "wood"]

    def test_class_without_a_name(self, tmp_path):
        trees.defect_spectrum(tmp_path)
        trees.save_mask(tmp_path / "DS-MVTec/wood/mask/broken_large/001_mask.png", trees.box(value=4))
        module = DefectSpectrumEpisodes(tmp_path, novel_categories=["wood"])
        with pytest.raises(
            ValueError, match=r"001_mask\.png holds class 4, which has no name in .*DS-MVTec\.md.*1 color"
        ):
            module.setup()

    def test_mask_of_another_size(self, tmp_path):
        trees.defect_spectrum(tmp_path)
        trees.save_mask(tmp_path / "DS-MVTec/wood/mask/broken_large/001_mask.png", trees.box(size=(20, 20), value=1))
        with pytest.raises(ValueError, match=r"001_mask\.png is 20 x 20 pixels, its image .*001\.png 40 x 32"):
            DefectSpectrumEpisodes(tmp_path, novel_categories=["wood"]).setup()

    def test_missing_mask(self, tmp_path):
        trees.defect_spectrum(tmp_path)
        (tmp_path / "DS-DAGM/mask/000_DAGM_mask.png").unlink()
        with pytest.raises(ValueError, match=r"000_DAGM\.jpg has no mask: expected"):
            DefectSpectrumEpisodes(tmp_path, novel_categories=["DAGM"]).setup()

    @pytest.mark.parametrize("text", [None, "nothing", "defects_dict = {'bottle': {'a': 1}}"])
    def test_names_file(self, tmp_path, text):
        trees.defect_spectrum(tmp_path)
        file = tmp_path / "DS-MVTec/DS-MVTec.md"
        file.unlink()
        if text is not None:
            file.write_text(text)
        with pytest.raises(ValueError, match=r"DS-MVTec\.md (does not exist|has no names for 'wood')"):
            DefectSpectrumEpisodes(tmp_path, base_categories=[], novel_categories=["wood"]).setup()
