"""Bad input of a user's own: what is said about it."""

import pytest

from anomalib_sofs.data import FolderEpisodes, MVTecADEpisodes

from . import trees


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
