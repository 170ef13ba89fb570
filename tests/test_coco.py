"""COCO files: what is read, and what is said about bad ones."""

import json
import tracemalloc

import numpy as np
import pytest

from anomalib_sofs.annotations.coco import read_coco

from . import trees


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

    def test_byte_order_mark(self, tmp_path):
        file = trees.coco(tmp_path, [trees.annotation(0, 1, trees.polygon())], {1: "scratch"}, 2)
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        (marked, normal) = read_coco(file, tmp_path, tmp_path)
        assert (marked.mask == (trees.box() > 0)).all()
        assert normal.label == "good"

    def test_nan_is_no_json(self, tmp_path):
        file = trees.coco(tmp_path, [trees.annotation(0, 1, trees.polygon(), number=float("nan"))], {1: "scratch"}, 2)
        with pytest.raises(ValueError, match=r"no readable JSON .*NaN and Infinity are no JSON either"):
            list(read_coco(file, tmp_path, tmp_path))

    def test_long_file_stays_in_bounded_memory(self, tmp_path):
        file = trees.coco(tmp_path, [], {1: "scratch"}, 2)
        content = json.loads(file.read_text())
        entry = json.dumps(trees.annotation(0, 1, trees.polygon()))
        tail = json.dumps({key: content[key] for key in ("categories", "images")})[1:]
        file.write_text('{"annotations": [' + ", ".join([entry] * 8_000) + "], " + tail)
        assert file.stat().st_size > 800_000
        tracemalloc.start()
        list(read_coco(file, tmp_path, tmp_path))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 800_000  # as a whole it takes 3,500,000
