"""Images of which only a rejected region is known: ``not/image`` and ``not/mask`` of a support folder."""

import re

import pytest
import torch

from anomalib_sofs.model import SupportSet
from anomalib_sofs.model.torch_model import record_of

from .test_rejections import DARK, mask_file, picture, scratch


@pytest.mark.parametrize("label", ["", "spot/"])
def test_the_rest_of_such_an_image_is_neither_good_nor_a_defect(tmp_path, label):
    picture(tmp_path / f"{label}image/a.png", DARK[0])
    mask_file(tmp_path / f"{label}mask/a.png", DARK[1])
    picture(tmp_path / "not/image/b.png", scratch(3)[0])
    mask_file(tmp_path / "not/mask/b_mask.png", scratch(3)[1])
    picture(tmp_path / "not/image/a.png", DARK[0])
    mask_file(tmp_path / "not/mask/a.png", torch.roll(DARK[1], 50, 1))
    read = SupportSet.from_folder(tmp_path)
    assert record_of(read)["labels"] == ["spot" if label else "defect", "not", "not"]
    assert [int((region > 0).sum()) for region in read.rejected[1:]] == [42, 160]
    assert [sorted(mask.unique().tolist()) for mask in read.masks] == [[0, 1], [0, 255], [0]]


def test_each_of_them_has_a_mask(tmp_path):
    picture(tmp_path / "image/a.png", DARK[0])
    mask_file(tmp_path / "mask/a.png", DARK[1])
    picture(tmp_path / "not/image/b.png", scratch(3)[0])
    (tmp_path / "not/mask").mkdir()
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/not/image/b.png has no mask")):
        SupportSet.from_folder(tmp_path)
