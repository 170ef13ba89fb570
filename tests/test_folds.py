"""Published folds: which categories are novel."""

import pytest

from anomalib_sofs.data import FolderEpisodes, MVTecADEpisodes, VisaEpisodes, folds

from . import trees
from .helpers_data import KWARGS


def test_folds_are_disjoint_and_complete():
    for split, count in ((folds.MVTEC_AD, 15), (folds.VISA, 12), (folds.VISION, 14), (folds.DEFECT_SPECTRUM, 23)):
        names = [name for fold in split.values() for name in fold]
        assert len(names) == len(set(names)) == count
    assert [name for fold in folds.VISA.values() for name in fold] == sorted(n for f in folds.VISA.values() for n in f)


class TestFold:
    def test_its_categories_are_novel_and_the_others_base(self, tmp_path):
        for name in (*folds.MVTEC_AD[0], "own_part"):
            trees.mvtec(tmp_path, name, {"scratch": 2})
        base, novel = MVTecADEpisodes(tmp_path, fold=0, **KWARGS).resolve_categories()
        assert novel == list(folds.MVTEC_AD[0])
        assert base == ["own_part"]

    def test_beside_categories_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="fold=1 chooses the categories"):
            MVTecADEpisodes(tmp_path, fold=1, novel_categories=["wood"])

    def test_that_does_not_exist_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"No fold 3\. There are folds 0, 1, 2"):
            VisaEpisodes(tmp_path, fold=3)
        with pytest.raises(ValueError, match="no published folds"):
            FolderEpisodes(tmp_path, fold=0)

    def test_with_a_missing_category_lists_what_exists(self, tmp_path):
        trees.mvtec(tmp_path, "grid", {"scratch": 2})
        with pytest.raises(ValueError, match=r"No category 'toothbrush'.*There are: grid"):
            MVTecADEpisodes(tmp_path, fold=0).setup()
