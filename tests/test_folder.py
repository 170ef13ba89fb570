"""A user's own folders, in every layout."""

from pathlib import Path

import numpy as np
import pytest

from anomalib_sofs.data import FolderEpisodes

from . import trees
from .helpers_data import KWARGS, mask_of


class TestFolder:
    def test_support_and_query(self, tmp_path):
        root = tmp_path / "part"
        for i in range(2):
            trees.picture(root / f"support/image/s{i}.png")
            trees.save_mask(root / f"support/mask/s{i}_mask.png", trees.box())
            trees.picture(root / f"query/image/q{i}.png")
            trees.save_mask(root / f"query/mask/q{i}.png", trees.box() * i)
        module = FolderEpisodes(root, **KWARGS)
        module.setup()
        queries = {Path(item.image_path).name: item for item in module.test_data}
        assert sorted(queries) == ["q0.png", "q1.png"]
        for query in queries.values():
            assert [Path(path).name for path in query.support_paths] == ["s0.png", "s1.png"]
        assert [bool(queries[name].counted) for name in sorted(queries)] == [False, True]
        assert module.class_names == ["part/defect"]
        with pytest.raises(ValueError, match="no base category"):
            module.train_dataloader()

    def test_support_and_query_without_ground_truth(self, tmp_path):
        trees.picture(tmp_path / "support/image/s.png")
        trees.save_mask(tmp_path / "support/mask/s.png", trees.box())
        trees.picture(tmp_path / "query/image/q.png")
        module = FolderEpisodes(tmp_path, **KWARGS)
        module.setup()
        (query,) = module.test_data
        assert not query.counted
        assert query.support_mask_paths[0].endswith("s.png")

    def test_support_and_query_with_a_missing_mask(self, tmp_path):
        self.test_support_and_query(tmp_path)
        (tmp_path / "part/query/mask/q0.png").unlink()
        with pytest.raises(ValueError, match=r"q0\.png has no mask: expected"):
            FolderEpisodes(tmp_path / "part").setup()

    def test_support_and_query_are_not_for_training(self, tmp_path):
        self.test_support_and_query(tmp_path)
        trees.images_masks(tmp_path / "other")
        with pytest.raises(ValueError, match=r"'part' have support/ and query/.*nothing to train on"):
            FolderEpisodes(tmp_path, base_categories=["part"]).setup()
        with pytest.raises(ValueError, match=r"'other' have not. Test them apart"):
            FolderEpisodes(tmp_path).setup()

    def test_mvtec(self, tmp_path):
        trees.mvtec(tmp_path, "cup", {"dent": 2})
        module = FolderEpisodes(tmp_path, novel_categories=["cup"], **KWARGS)
        module.setup()
        assert module.class_names == ["cup/dent"]

    @pytest.mark.parametrize("plural", ["", "s"])
    def test_images_beside_masks(self, tmp_path, plural):
        trees.images_masks(tmp_path / "cup", 3, plural, [trees.box(), trees.box(), trees.box() * 0])
        for root in (tmp_path, tmp_path / "cup"):  # a folder of categories, or one category
            module = FolderEpisodes(root, **KWARGS)
            module.setup()
            assert module.class_names == ["cup/defect"]
            assert [row.label for row, _, _ in module.test_data.episodes] == ["defect", "defect", "good"]

    def test_class_numbers(self, tmp_path):
        both = trees.box(value=1) + trees.box((20, 20, 22, 22), value=2)
        trees.images_masks(tmp_path, 3, masks=[both, both, trees.box() * 0])
        module = FolderEpisodes(tmp_path, **KWARGS)
        module.setup()
        assert module.class_names == [f"{tmp_path.name}/class_1", f"{tmp_path.name}/class_2"]
        (tmp_path / "classes.txt").write_text("dent\nscratch\n")
        module = FolderEpisodes(tmp_path, **KWARGS)
        assert mask_of(module, tmp_path.name, "0.jpg", "scratch").sum() == 4

    def test_class_number_without_a_name(self, tmp_path):
        trees.images_masks(tmp_path, masks=[trees.box(value=value) for value in (1, 1, 2)])
        (tmp_path / "classes.txt").write_text("dent")
        with pytest.raises(ValueError, match=r"2\.png holds class 2, which has no name in .*classes\.txt.*1 dent"):
            FolderEpisodes(tmp_path).setup()

    def test_doubled_class_name(self, tmp_path):
        trees.images_masks(tmp_path)
        (tmp_path / "classes.txt").write_text("dent\ndent")
        with pytest.raises(ValueError, match=r"classes\.txt names class 1 'dent'"):
            FolderEpisodes(tmp_path).setup()

    def test_coco(self, tmp_path):
        entries = [trees.annotation(i, 1, trees.polygon()) for i in range(2)]
        trees.coco(tmp_path / "cup", entries, {1: "dent"}, 3, file="labels.json")
        trees.coco(tmp_path / "can/images", entries, {1: "dent"}, 3, file="../labels.json")
        module = FolderEpisodes(tmp_path, **KWARGS)
        module.setup()
        assert module.class_names == ["can/dent", "cup/dent"]

    def test_labelme(self, tmp_path):
        half = np.full((4, 3), 255, dtype=np.uint8)
        for i in range(3):
            trees.picture(tmp_path / f"{i}.png")
            trees.labelme(
                tmp_path / f"{i}.json",
                [
                    trees.shape("dent", trees.SQUARE),
                    trees.shape("dent", [[20, 20], [21, 22]], "rectangle"),
                    trees.shape("hole", [[30, 20], [30, 22]], "circle"),
                    trees.shape("blob", [[1, 2], [3, 5]], "mask", half),
                ]
                if i
                else [],
            )
        module = FolderEpisodes(tmp_path, **KWARGS)
        module.setup()
        name = tmp_path.name
        assert module.class_names == [f"{name}/blob", f"{name}/dent", f"{name}/hole"]
        dent = trees.box() > 0
        dent[20:23, 20:22] = True
        assert (mask_of(module, name, "1.png", "dent") == dent).all()
        assert mask_of(module, name, "1.png", "hole")[20, 30]
        blob = mask_of(module, name, "1.png", "blob")
        assert blob[2:6, 1:4].all()
        assert blob.sum() == 12
        assert len(module.samples_of(name).query("label == 'good'")) == 1
