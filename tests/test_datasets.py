"""Each dataset: what its samples are, and what is said about bad input."""

import json
import logging
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from anomalib_sofs.data import (
    DefectSpectrumEpisodes,
    FolderEpisodes,
    MVTecADEpisodes,
    VisaEpisodes,
    VisionEpisodes,
    coco,
    folds,
)
from anomalib_sofs.data.coco import read_coco
from anomalib_sofs.data.mask_cache import MaskCache
from anomalib_sofs.images import read_mask

from . import trees

KWARGS = {"num_workers": 0}


def rows_of(module, category):
    samples = module.samples_of(category)
    return sorted((Path(s.image_path).name, s.label) for s in samples.itertuples())


def mask_of(module, category, name, label):
    samples = module.samples_of(category)
    (path,) = samples["mask_path"][samples["image_path"].str.endswith(name) & (samples["label"] == label)]
    return read_mask(path).numpy()


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


class TestCoco:
    """Bad annotation files, each named with the remedy."""

    def read(self, folder, entries, names=None, images=2, **kwargs):
        file = trees.coco(folder, entries, names or {1: "scratch"}, images, **kwargs)
        return list(read_coco(file, folder, folder))

    def test_missing_image(self, tmp_path):
        file = trees.coco(tmp_path, [], {}, 2)
        (tmp_path / "001.png").unlink()
        with pytest.raises(
            ValueError, match=r"_annotations\.coco\.json lists 001\.png.*does not exist\. Add the image"
        ):
            list(read_coco(file, tmp_path, tmp_path))

    def test_polygon_outside_of_the_image(self, tmp_path):
        entries = [trees.annotation(1, 1, trees.polygon((100, 100, 120, 120)), 7)]
        with pytest.raises(
            ValueError, match=r"Annotation 7 in .*_annotations\.coco\.json \(001\.png\).*outside of the image"
        ):
            self.read(tmp_path, entries)

    def test_polygon_partly_outside_is_cut_off(self, tmp_path, caplog):
        marked = self.read(tmp_path, [trees.annotation(0, 1, trees.polygon((-9, -9, 3, 3)), 5)])
        assert marked[0].mask[:3, :3].all()
        assert marked[0].mask.sum() == 9
        assert "Annotation 5" in caplog.text

    def test_image_of_another_size(self, tmp_path):
        file = trees.coco(tmp_path, [], {}, 1)
        trees.picture(tmp_path / "000.png", (8, 8))
        with pytest.raises(ValueError, match=r"says that 000\.png has 40 x 32 pixels, but .*000\.png has 8 x 8"):
            list(read_coco(file, tmp_path, tmp_path))

    def test_run_lengths_of_another_size(self, tmp_path):
        with pytest.raises(ValueError, match=r"Annotation 0 in .*size \[4, 4\]"):
            self.read(tmp_path, [trees.annotation(0, 1, {"size": [4, 4], "counts": [0, 16]})])
        with pytest.raises(ValueError, match="run lengths for 3 pixels"):
            self.read(tmp_path, [trees.annotation(0, 1, {"size": list(trees.SIZE), "counts": [1, 2]})])

    def test_class_without_a_name(self, tmp_path):
        with pytest.raises(ValueError, match=r"Annotation 3 in .* class id 9, which has no name.*1 scratch"):
            self.read(tmp_path, [trees.annotation(0, 9, trees.polygon(), 3)])

    def test_image_that_is_not_listed(self, tmp_path):
        with pytest.raises(ValueError, match="image id 9, which is not listed"):
            self.read(tmp_path, [trees.annotation(9, 1, trees.polygon())])

    def test_box_alone(self, tmp_path):
        with pytest.raises(ValueError, match="boxes alone are not enough"):
            self.read(tmp_path, [trees.annotation(0, 1, [])])

    def test_broken_json(self, tmp_path):
        (tmp_path / "a.json").write_text('{"images": [{"id": 0,')
        with pytest.raises(ValueError, match=r"a\.json is no readable JSON"):
            list(read_coco(tmp_path / "a.json", tmp_path, tmp_path))

    def test_image_outside_of_the_root(self, tmp_path):
        trees.picture(tmp_path / "000.png")
        file = trees.coco(tmp_path / "root", [], {}, 1, prefix="../")
        with pytest.raises(ValueError, match=r"lists \.\./000\.png, which is .*outside of"):
            list(read_coco(file, tmp_path / "root", tmp_path / "root"))

    def test_smallest_polygon_survives(self, tmp_path):
        (marked, _) = self.read(tmp_path, [trees.annotation(0, 1, [[7.2, 9.2, 7.4, 9.2, 7.4, 9.4]])])
        assert np.argwhere(marked.mask).tolist() == [[9, 7]]

    def test_several_polygons_of_a_class_share_a_mask(self, tmp_path):
        entries = [
            trees.annotation(0, 1, trees.polygon(), 0),
            trees.annotation(0, 1, trees.polygon((20, 20, 22, 22)), 1),
        ]
        (marked, _) = self.read(tmp_path, entries)
        assert marked.mask.sum() == (trees.box() > 0).sum() + 4

    @pytest.mark.parametrize("chunk", [1, 7, 64])
    def test_any_chunk_size_reads_the_same(self, tmp_path, monkeypatch, chunk):
        monkeypatch.setattr(coco, "CHUNK", chunk)
        (marked, normal) = self.read(tmp_path, [trees.annotation(0, 1, trees.polygon())])
        assert (marked.mask == (trees.box() > 0)).all()
        assert normal.label == "good"

    def test_long_file_stays_in_bounded_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr(coco, "CHUNK", 1 << 14)
        file = trees.coco(tmp_path, [], {1: "scratch"}, 2)
        content = json.loads(file.read_text())
        entry = json.dumps(trees.annotation(0, 1, trees.polygon()))
        tail = json.dumps({key: content[key] for key in ("categories", "images")})[1:]
        file.write_text('{"annotations": [' + ", ".join([entry] * 10_000) + "], " + tail)
        assert file.stat().st_size > 1_000_000
        tracemalloc.start()
        list(read_coco(file, tmp_path, tmp_path))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 200_000


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


class TestBadFolder:
    """Bad input of a user's own, each file named with the remedy."""

    def test_empty(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no category"):
            FolderEpisodes(tmp_path).setup()

    def test_missing_mask_and_missing_image(self, tmp_path):
        trees.images_masks(tmp_path)
        (tmp_path / "masks/1.png").rename(tmp_path / "masks/7.png")
        with pytest.raises(ValueError, match=r"images/1\.jpg has no mask: expected .*masks/1\.png"):
            FolderEpisodes(tmp_path).setup()
        trees.save_mask(tmp_path / "masks/1.png", trees.box())
        with pytest.raises(ValueError, match=r"masks/7\.png belongs to no image"):
            FolderEpisodes(tmp_path).setup()

    def test_mask_of_another_size(self, tmp_path):
        trees.images_masks(tmp_path, masks=[trees.box(), trees.box(), trees.box(size=(20, 20))])
        with pytest.raises(ValueError, match=r"2\.png is 20 x 20 pixels, its image .*2\.jpg 40 x 32"):
            FolderEpisodes(tmp_path).setup()

    @pytest.mark.parametrize("layout", ["images", "mvtec"])
    def test_duplicate_stems(self, tmp_path, layout):
        if layout == "images":
            trees.images_masks(tmp_path)
            trees.picture(tmp_path / "images/1.png")
            twins = r"1\.jpg and .*1\.png share one stem"
        else:
            trees.picture(trees.mvtec(tmp_path, "cup", {"dent": 2}) / "test/dent/001.jpg")
            twins = r"001\.jpg and .*001\.png share one stem"
        with pytest.raises(ValueError, match=twins):
            FolderEpisodes(tmp_path).setup()

    @pytest.mark.parametrize("what", ["file", "folder", "category"])
    def test_links_that_leave_the_root(self, tmp_path, what):
        trees.images_masks(tmp_path / "elsewhere")
        root = tmp_path / "root"
        trees.images_masks(root / "cup")
        link = {"file": root / "cup/images/1.jpg", "folder": root / "cup/masks", "category": root / "cap"}[what]
        target = {"file": "images/1.jpg", "folder": "masks", "category": "."}[what]
        if what == "file":
            link.unlink()
        elif what == "folder":
            link.rename(tmp_path / "aside")
        link.symlink_to(tmp_path / "elsewhere" / target)
        with pytest.raises(ValueError, match=rf"{link} is a link to .*elsewhere.*, outside of .*Copy it there"):
            FolderEpisodes(root).setup()

    def test_links_inside_the_root_and_to_it_are_fine(self, tmp_path):
        trees.images_masks(tmp_path / "root")
        (tmp_path / "root/images/2.jpg").rename(tmp_path / "root/kept.jpg")
        (tmp_path / "root/images/2.jpg").symlink_to(tmp_path / "root/kept.jpg")
        (tmp_path / "link").symlink_to(tmp_path / "root")
        FolderEpisodes(tmp_path / "link").setup()

    def test_link_in_mvtec_layout(self, tmp_path):
        picture = trees.picture(tmp_path / "elsewhere/000.png")
        folder = trees.mvtec(tmp_path / "root", "cup", {"dent": 2})
        (folder / "test/dent/000.png").unlink()
        (folder / "test/dent/000.png").symlink_to(picture)
        with pytest.raises(ValueError, match=r"test/dent/000\.png is a link to"):
            MVTecADEpisodes(tmp_path / "root", novel_categories=["cup"]).setup()

    def test_only_normal_images(self, tmp_path):
        trees.images_masks(tmp_path / "cup", masks=[trees.box() * 0] * 3)
        with pytest.raises(ValueError, match="Category 'cup' has only normal images"):
            FolderEpisodes(tmp_path).setup()

    def test_too_few_images(self, tmp_path):
        trees.images_masks(tmp_path / "cup", 2)
        with pytest.raises(ValueError, match=r"'defect' of 'cup' has 2 images; 2 shots need at least 3"):
            FolderEpisodes(tmp_path, shot=2).setup()

    def test_labelme_without_its_image(self, tmp_path):
        trees.picture(tmp_path / "0.png")
        trees.labelme(tmp_path / "0.json", [])
        trees.labelme(tmp_path / "1.json", [], image="..\\photos\\1.png")
        with pytest.raises(ValueError, match=r"1\.json is of the image '\.\./photos/1\.png', but .* does not exist"):
            FolderEpisodes(tmp_path).setup()

    def test_image_without_labelme_file(self, tmp_path):
        for i in range(2):
            trees.picture(tmp_path / f"{i}.png")
        trees.labelme(tmp_path / "0.json", [])
        with pytest.raises(ValueError, match=r"1\.png has no LabelMe file: expected .*1\.json"):
            FolderEpisodes(tmp_path).setup()

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            (trees.shape("dent", [[90, 90], [95, 90], [95, 95]]), r"Shape 0 in .*0\.json \('dent'\) lies outside"),
            (trees.shape("dent", [[1, 1], [2, 2]]), "is a 'polygon' of 2 points"),
            (trees.shape("", trees.SQUARE), "has the label ''"),
            (trees.shape("dent", [[1, 1]], "mask"), "has no readable mask"),
        ],
    )
    def test_labelme_shapes(self, tmp_path, shape, message):
        trees.picture(tmp_path / "0.png")
        trees.labelme(tmp_path / "0.json", [shape])
        with pytest.raises(ValueError, match=message):
            FolderEpisodes(tmp_path).setup()

    def test_labelme_of_another_size(self, tmp_path):
        trees.picture(tmp_path / "0.png")
        trees.labelme(tmp_path / "0.json", [], size=(10, 10))
        with pytest.raises(ValueError, match=r"0\.json was drawn on 10 x 10 pixels, but .*0\.png has 40 x 32"):
            FolderEpisodes(tmp_path).setup()

    def test_unreadable_labelme(self, tmp_path):
        trees.picture(tmp_path / "0.png")
        (tmp_path / "0.json").write_text("{}")
        with pytest.raises(ValueError, match=r"0\.json is no LabelMe file"):
            FolderEpisodes(tmp_path).setup()


@pytest.mark.parametrize("name", ["vision", "defect_spectrum", "folder"])
def test_trains_and_tests(tmp_path, name):
    if name == "vision":
        trees.vision(tmp_path, "Cable")
        module = VisionEpisodes(trees.vision(tmp_path, "Ring"), novel_categories=["Ring"], crop_size=16, **KWARGS)
    elif name == "defect_spectrum":
        module = DefectSpectrumEpisodes(
            trees.defect_spectrum(tmp_path), novel_categories=["DAGM"], crop_size=16, **KWARGS
        )
    else:
        trees.images_masks(tmp_path / "cup")
        trees.images_masks(tmp_path / "can")
        module = FolderEpisodes(tmp_path, novel_categories=["cup"], crop_size=16, **KWARGS)
    module.setup()
    batch = next(iter(module.train_dataloader()))
    assert batch.support_mask.flatten(2).any(dim=2).all()
    assert batch.image.shape[-2:] == (16, 16)
    for query in module.test_dataloader():
        assert torch.isfinite(query.image).all()
