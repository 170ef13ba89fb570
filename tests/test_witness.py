"""The images that are searched as witness: what the most usual of them show is no defect."""

import pytest
import torch
from anomalib.engine import Engine
from torchvision.utils import save_image

from anomalib_sofs import Sofs, SupportSet
from anomalib_sofs.model.witness import LEAST_IMAGES, MOST_SCORED, Witness, mutual_scores, usual_images

from .helpers_model import default_model, marked, paper_model, support
from .helpers_scripts import run
from .test_contrast import DARK, good_images
from .test_find import result


def write(folder, images):
    """Save images under the names 00.png, 01.png, ..."""
    folder.mkdir()
    files = [folder / f"{number:02}.png" for number in range(len(images))]
    for image, file in zip(images, files, strict=True):
        save_image(image, file)
    return [str(file) for file in files]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """30 parts, each with a dark patch that belongs there; every fifth has another one that does not."""
    images = good_images(30)
    for number in range(0, 30, 5):
        top = 30 + number
        images[number] = torch.minimum(images[number], marked(120, 140, (top, 80, top + 7, 86))[0] + 1e-3)
    return write(tmp_path_factory.mktemp("witness") / "parts", images)


def test_a_cell_is_as_unusual_as_it_is_far_from_what_the_most_similar_third_of_the_others_show():
    usual, odd = torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])
    plain = [usual[:, None].expand(2, 20)] * 9
    scored = mutual_scores([*plain, torch.stack([odd, *[usual] * 19], dim=1)])
    assert scored[:9].tolist() == [0] * 9
    assert float(scored[9]) == pytest.approx(0.4)  # the mean of one cell of twenty; the median is 0
    twice = mutual_scores([*plain[:8], *[torch.stack([odd, *[usual] * 19], dim=1)] * 2])
    assert twice[8:].tolist() == pytest.approx([0.2, 0.2])  # one of the two that are asked shows it, too


def test_usual_images_are_those_without_what_the_others_do_not_show(parts):
    chosen = usual_images(default_model(), parts)
    assert len(chosen) == 10
    assert chosen == sorted(chosen)
    assert not set(chosen) & set(parts[::5])


def test_many_images_are_drawn_evenly_by_name(monkeypatch, parts):
    monkeypatch.setattr("anomalib_sofs.model.witness.MOST_SCORED", 6)
    assert set(usual_images(default_model(), parts)) < set(parts[::5])
    assert MOST_SCORED == 48


def test_an_image_is_compared_with_others_and_what_they_show_is_found_no_more(parts):
    model = default_model()
    witness, encoding = Witness(model, parts), model.encode(support(DARK))
    beside = {file: witness.beside(encoding, file) for file in parts}
    for file in witness.usual:
        assert file not in beside[file].contrast.record["images"]
        assert len(beside[file].contrast.record["images"]) == 5
    assert len(beside[parts[0]].contrast.record["images"]) == 10
    assert beside[parts[0]].record == {**encoding.record, "usual": witness.usual}
    assert encoding.contrast is None
    assert "usual" not in encoding.record

    part = model.normalise(good_images(31)[30])[None]
    there = (0, 0, slice(90, 97), slice(20, 26))
    before, after = (float(model.logits(part, known)[there].max()) for known in (encoding, beside[parts[0]]))
    assert after < before - 1


def test_too_few_images_are_no_witness(parts, caplog):
    model = default_model()
    encoding = model.encode(support(DARK))
    witness = Witness(model, parts[: LEAST_IMAGES - 1])
    assert witness.beside(encoding, parts[0]) is encoding
    assert "needs at least 30 images to tell what is usual, and there are 29: it is left out" in caplog.text


def test_a_detector_that_sees_windows_cannot_tell():
    with pytest.raises(ValueError, match="witness=True needs head='relation'"):
        Witness(paper_model(), [])


def test_where_no_folder_counts_a_witness_says_so(parts, tmp_path, caplog):
    """Anomaly detection has its normal images, an export no folder."""
    model = Sofs(witness=True, visualizer=False)
    model.set_support(SupportSet.from_files(parts[:1], [""]))
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", devices=1, logger=False)
    (predicted,) = engine.predict(model, data_path=parts[-2], return_predictions=True)
    assert "usual" not in predicted.support_records[0]
    assert "witness=True changes nothing here: anomaly detection compares with its normal images already" in caplog.text
    model.prepare_export()
    assert "witness=True changes nothing here: what is exported sees one image at a time, and no folder" in caplog.text


def test_find_says_which_images_were_usual(parts, tmp_path):
    for name, tensor in zip(("image", "mask"), DARK, strict=True):
        (tmp_path / "support" / name).mkdir(parents=True)
        save_image(tensor, tmp_path / "support" / name / "a.png")
    folder = parts[0].rsplit("/", 1)[0]
    common = ("anomalib-sofs", "find", tmp_path / "support", folder, "--out", tmp_path / "found", "--witness")
    run(*common, cwd=tmp_path)
    found = result(tmp_path / "found", "00")
    assert len(found["support"]["usual"]) == 10
    assert not set(found["support"]["usual"]) & set(parts[::5])
    wrong = run(*common, "--good", folder, cwd=tmp_path, check=False)
    assert wrong.returncode == 2
    assert "witness=True is for where there are no good images, but good names some" in wrong.stderr
