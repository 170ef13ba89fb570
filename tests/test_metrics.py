"""Metrics against numbers worked out by hand and against anomalib's own."""

import json
import math
import pickle
import resource

import anomalib.metrics
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import F1AdaptiveThreshold
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from anomalib_sofs.data.items import EpisodeBatch
from anomalib_sofs.metrics import AUPRO, AUROC, EpisodeIoU, ImageAUROC, SofsEvaluator
from anomalib_sofs.metrics.class_confusion import ClassConfusion, ClassResults, class_of
from anomalib_sofs.metrics.class_report import write_results
from anomalib_sofs.metrics.f1_threshold import F1Threshold
from anomalib_sofs.metrics.score_bins import BINS, lowest_score, score_bins

from .helpers_metrics import played


def boolean(rows):
    return torch.tensor(rows).bool()


# -- IoU -------------------------------------------------------------------------------------------------------------


def test_iou_pools_the_queries_of_a_class_and_averages_over_classes():
    iou = EpisodeIoU(["cup/dent", "cup/hole", "cup/never"])
    # dent: intersections 1 + 0, unions 2 + 1 over queries of different sizes
    iou.update("cup/dent", boolean([[1, 1], [0, 0]]), boolean([[1, 0], [0, 0]]))
    iou.update("cup/dent", boolean([[0, 0, 0]]), boolean([[0, 0, 1]]))
    # hole: intersection 2, union 2
    iou.update("cup/hole", boolean([[1, 1, 0, 0]]), boolean([[1, 1, 0, 0]]))
    values = {name: float(value) for name, value in iou.compute().items()}
    # foreground 3 / 5; background intersections 2 + 2 + 2, unions 3 + 3 + 2
    assert values == pytest.approx({
        "IoU/cup/dent": 1 / 3, "IoU/cup/hole": 1.0, "mIoU": 2 / 3, "FB-IoU": (3 / 5 + 6 / 8) / 2,
    })  # fmt: skip


def test_iou_of_a_class_that_is_neither_there_nor_found_is_one():
    iou = EpisodeIoU(["cup/dent"])
    iou.update("cup/dent", boolean([[0, 0]]), boolean([[0, 0]]))
    assert {name: float(value) for name, value in iou.compute().items()} == {"IoU/cup/dent": 1, "mIoU": 1, "FB-IoU": 1}


def test_iou_without_queries_is_empty():
    assert EpisodeIoU(["cup/dent"]).compute() == {}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(1, 9), st.integers(1, 9), st.integers(0, 999)), min_size=1, max_size=6
    )
)
def test_iou_equals_sums_of_sets(queries):
    iou = EpisodeIoU(["a", "b"])
    sums = {}
    for which, h, w, seed in queries:
        generator = torch.Generator().manual_seed(seed)
        found, truth = (torch.rand(h, w, generator=generator) < 0.4 for _ in range(2))
        iou.update("ab"[which], found, truth)
        both, either = sums.get("ab"[which], (0, 0))
        sums["ab"[which]] = (both + int((found & truth).sum()), either + int((found | truth).sum()))
    values = iou.compute()
    expected = {name: both / either if either else 1.0 for name, (both, either) in sums.items()}
    assert {k: float(values[f"IoU/{k}"]) for k in expected} == pytest.approx(expected)
    assert float(values["mIoU"]) == pytest.approx(sum(expected.values()) / len(expected))


# -- AUROC -----------------------------------------------------------------------------------------------------------

# scores of probabilities, of distances far from zero, and of log-likelihoods: the histograms know no range beforehand
RANGES = st.sampled_from([torch.sigmoid, lambda x: torch.sigmoid(x - 7), lambda x: 25 + x, lambda x: 1000 * x - 5000])


def maps_of(seed, scale, size=(2, 48, 60)):
    """Maps in which defects score a little higher, and masks with some regions."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, generator=generator)
    coarse = torch.randn(size[0], 1, size[1] // 6, size[2] // 6, generator=generator)
    masks = torch.nn.functional.interpolate(coarse, size=size[1:])[:, 0] > 1.2
    masks[0, 0, 0], masks[0, 1, :] = True, False
    return scale(noise + masks), masks


def measured(kind, *batches, ignore=None):
    metric = kind(fields=["anomaly_map", "gt_mask"], strict=False)
    for maps, masks in batches:
        batch = ImageBatch(image=torch.zeros(len(maps), 3, *maps.shape[-2:]), anomaly_map=maps, gt_mask=masks)
        batch.ignore_mask = ignore
        metric.update(batch)
    return float(metric.compute())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), RANGES)
def test_auroc_equals_the_exact_one_to_1e_4(seed, scale):
    batches = [maps_of(seed, scale), maps_of(seed + 1, scale, (1, 60, 36))]
    scores, truth = (torch.cat([batch[i].flatten() for batch in batches]).numpy() for i in (0, 1))
    assert measured(AUROC, *batches) == pytest.approx(roc_auc_score(truth, scores), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-3.0, 0.0, -0.0, 0.5, 1.0, 20.0, 30.0]), st.booleans()), min_size=1))
def test_auroc_of_images_is_exact_for_ties_and_distances(images):
    metric = ImageAUROC(fields=["pred_score", "gt_label"])
    for score, label in images:
        image = torch.zeros(1, 3, 8, 8)
        metric.update(ImageBatch(image=image, pred_score=torch.tensor([score]), gt_label=torch.tensor([label])))
    value, (scores, labels) = float(metric.compute()), zip(*images, strict=True)
    if len(set(labels)) < 2:
        assert math.isnan(value)
    else:
        assert value == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)


def test_scores_keep_their_order_in_the_bins_and_probabilities_their_precision():
    bits = torch.randint(-(2**31), 2**31 - 1, (200_000,), generator=torch.Generator().manual_seed(0))
    scores = bits.int().view(torch.float32)
    scores = torch.cat([scores[~scores.isnan()], torch.tensor([-torch.inf, -0.0, 0.0, 1.0, torch.inf])]).sort().values
    bins = score_bins(scores)
    assert (bins.diff() >= 0).all()
    assert (int(bins[0]), int(bins[-1])) == (0, BINS - 1)
    assert score_bins(torch.tensor([-0.0])) == score_bins(torch.tensor([0.0]))
    apart = torch.tensor([1e-6, 0.01, 0.3, 0.9999, 25.0, 60000.0])
    assert (score_bins(apart * (1 + 2**-13)) > score_bins(apart)).all()


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="2 of 4 scores are NaN"):
        measured(AUROC, (torch.tensor([[[0.1, torch.nan], [torch.nan, 0.3]]]), boolean([[[0, 1], [0, 1]]])))


# -- AUPRO -----------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), RANGES)
def test_aupro_equals_anomalibs_on_images_of_one_size(seed, scale):
    batches = [maps_of(seed, scale), maps_of(seed + 1, scale)]
    reference = anomalib.metrics.AUPRO(fields=["anomaly_map", "gt_mask"])
    for maps, masks in batches:
        reference.update(ImageBatch(image=torch.zeros(2, 3, 48, 60), anomaly_map=maps, gt_mask=masks))
    # seed 466447 is 2.3e-4 apart, others less
    assert measured(AUPRO, *batches) == pytest.approx(float(reference.compute()), abs=5e-4)


def test_aupro_of_different_sizes_by_hand():
    """Regions of one and of four pixels count the same; sizes differ."""
    small = torch.zeros(1, 2, 4), torch.zeros(1, 2, 4, dtype=torch.bool)
    small[1][0, 0, 0] = True
    small[0][0, 0, 0] = 0.9
    small[0][0, 0, 1:4] = torch.tensor([0.1, 0.2, 0.3])
    tall = torch.zeros(1, 3, 2) + 0.05, torch.zeros(1, 3, 2, dtype=torch.bool)
    tall[1][0, :2, :] = True  # four pixels of one region
    tall[0][0, :2, :] = 0.8
    tall[0][0, 2, :] = 0.95  # two false positives above everything
    # background: 7 in the first image, 2 in the second. Descending scores give (false positives, mean overlap):
    # .95 -> (2/9, 0), .9 -> (2/9, .5), .8 -> (2/9, 1), .3 -> (3/9, 1): clipped at .3 the area is (.3 - 2/9) * 1
    assert measured(AUPRO, small, tall) == pytest.approx((0.3 - 2 / 9) / 0.3, abs=1e-6)


def test_regions_of_different_images_count_the_same_whatever_their_size():
    one = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]] * 2]), torch.tensor([[[1, 0, 0, 0, 0]] * 2])
    missed = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)
    missed[1][0, 1:4, 1:4] = 1
    # region one is found before any false positive, the other only with all of the background: mean overlap rises
    # linearly from one half to one along the false positive rate
    expected = (0.5 * 0.3 + 0.5 * 0.3**2 / 2) / 0.3
    assert measured(AUPRO, (one[0], one[1].bool()), (missed[0], missed[1].bool())) == pytest.approx(expected, abs=1e-5)


def test_an_image_that_is_defect_all_over_counts_as_a_region():
    whole = torch.full((1, 4, 4), 0.9), torch.ones(1, 4, 4).bool()
    half = torch.tensor([[[0.1, 0.2, 0.3], [0.1, 0.2, 0.8]]]), torch.tensor([[[0, 0, 0], [0, 0, 1]]]).bool()
    assert measured(AUPRO, whole, half) == pytest.approx(1.0)


def test_ignored_pixels_are_neither_background_nor_defect():
    maps = torch.tensor([[[0.9, 0.1, 0.8, 0.2], [0.9, 0.1, 0.0, 0.0]]])
    masks = boolean([[[1, 1, 0, 0], [1, 0, 0, 0]]])
    # without the missed pixel and the false alarm everything is right; the region is what is left of it
    ignore = boolean([[[0, 1, 1, 0], [0, 0, 0, 0]]])
    assert measured(AUPRO, (maps, masks), ignore=ignore) == pytest.approx(1)
    assert measured(AUROC, (maps, masks), ignore=ignore) == pytest.approx(1)
    assert measured(AUPRO, (maps, masks)) < 0.9
    assert measured(AUROC, (maps, masks)) < 0.9


# -- several classes -------------------------------------------------------------------------------------------------


def test_confusion_of_classes_by_hand():
    confusion = ClassConfusion(["dent", "hole"])
    # images of different sizes: a dent half found as a hole, a hole missed but for one pixel, a good part, and a class
    # that the support does not mark
    confusion.update(torch.tensor([[1, 2, 0], [0, 0, 1]]), boolean([[1, 1, 0], [0, 0, 0]]), "dent")
    confusion.update(torch.tensor([[2, 0, 0, 0]]), boolean([[1, 1, 0, 0]]), "hole")
    confusion.update(torch.tensor([[0, 2]]), boolean([[0, 0]]), "dent")
    confusion.update(torch.tensor([[1, 0, 0]]), boolean([[1, 1, 0]]), "other defects")
    results = confusion.compute()
    assert results.truth == ["background", "dent", "hole", "other defects"]
    assert results.found == ["background", "dent", "hole"]
    assert results.pixels == [[7, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert results.table() == pytest.approx({"IoU/dent": 1 / 4, "IoU/hole": 1 / 4, "mIoU": 1 / 4})


def test_a_class_that_no_image_shows_has_no_iou_and_there_may_be_none_at_all():
    confusion = ClassConfusion(["dent", "hole"])
    assert confusion.compute() is None
    confusion.update(torch.tensor([[1, 0]]), boolean([[0, 0]]), "other defects")
    assert confusion.compute().table() == {}
    confusion.update(torch.tensor([[1, 0]]), boolean([[1, 0]]), "dent")
    assert confusion.compute().table() == pytest.approx({"IoU/dent": 1 / 2, "mIoU": 1 / 2})
    assert confusion.compute().truth == ["background", "dent", "hole"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("data/ground_truth/dent/1_mask.png", "data/test/dent/1.png"), "dent"),
        (("hole/mask/1.png", "hole/image/1.png"), "hole"),
        ((None, "data/test/hole/1.png"), "hole"),
        (("", "data/test/good/1.png"), "other defects"),
        (("masks/1.png", "dent/1.png"), "dent"),  # the mask's folder says nothing
        (("hole/mask/dent/1.png", "x/1.png"), "dent"),  # the nearest folder counts
        (("dent/a/b/1.png", "a/b/1.png"), "other defects"),
    ],
)
def test_the_class_of_an_image_is_the_name_of_its_folder(files, expected):
    assert class_of(files, ["dent", "hole"]) == expected


# -- evaluator -------------------------------------------------------------------------------------------------------


def batch(defect, cls=ImageBatch, score=0.9, size=8, **fields):
    """One image, found where it is defective if the score is above one half."""
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    maps = torch.full((1, size, size), 0.1)
    if defect:
        mask[:, 2:4, 2:4] = True
        maps[:, 2:4, 2:4] = score
    return cls(
        image=torch.zeros(1, 3, size, size), gt_mask=mask, gt_label=torch.tensor([defect]), anomaly_map=maps,
        pred_mask=maps > 0.5, pred_score=maps.amax((1, 2)), pred_label=maps.amax((1, 2)) > 0.5, **fields,
    )  # fmt: skip


def episode(defect, counted=True, score=0.9, **fields):
    counts = torch.tensor([counted])
    return batch(defect, EpisodeBatch, score, category=["cup"], defect_class=["dent"], counted=counts, **fields)


def of_classes(found, truth, **fields):
    """An image with a map of the classes dent and hole."""
    made = ImageBatch(
        image=torch.zeros(1, 3, 8, 8), gt_mask=truth[None], pred_mask=found[None] > 0, anomaly_map=(found[None] > 0) * 0.9,
        **fields,
    )  # fmt: skip
    made.class_map, made.class_names = found[None], ["dent", "hole"]
    return made


def row(*values):
    """A map of 8 x 8 pixels of which the first row is not zero everywhere."""
    return torch.nn.functional.pad(torch.tensor(values)[None], (0, 8 - len(values), 0, 7))


def test_episodes_of_defects_only_have_no_image_auroc(tmp_path):
    values = played(tmp_path, episode(defect=True), episode(defect=True), episodes=["cup/dent"])
    assert values == pytest.approx(
        {"IoU/cup/dent": 1, "mIoU": 1, "FB-IoU": 1, "image_F1Score": 1, "pixel_AUROC": 1}, abs=1e-3
    )


def test_episodes_with_normal_queries_have_one_and_those_do_not_count_for_iou(tmp_path):
    normal = episode(defect=False, counted=False)
    normal.pred_mask[:] = True
    values = played(tmp_path, episode(defect=True), normal, episodes=["cup/dent"])
    assert values["image_AUROC"] == 1
    assert values["mIoU"] == 1


def test_normal_images_only_have_no_curve_at_all(tmp_path):
    values = played(tmp_path, batch(defect=False), batch(defect=False))
    assert set(values) == {"image_F1Score", "pixel_F1Score"}


def test_anomaly_detection_has_image_and_pixel_metrics(tmp_path):
    values = played(tmp_path, batch(defect=True), batch(defect=False))
    assert values == pytest.approx(
        {"image_AUROC": 1, "image_F1Score": 1, "pixel_AUROC": 1, "pixel_AUPRO": 1, "pixel_F1Score": 1}, abs=1e-4
    )


def test_a_second_test_starts_from_nothing(tmp_path):
    evaluator = SofsEvaluator()
    for score, expected in ((0.2, 0), (0.9, 1)):  # first everything is missed, then everything is found
        values = played(tmp_path, episode(defect=True, score=score), episodes=["cup/dent"], evaluator=evaluator)
        assert values["mIoU"] == expected


def test_ignored_pixels_count_for_no_metric(tmp_path):
    """A false alarm, a missed pixel and a pixel of the wrong class, all of them to be ignored."""
    found, truth = row(1, 1, 0, 2, 2), row(1, 1, 1, 1, 0).bool()
    ignore = row(0, 0, 1, 1, 1).bool()[None]
    classes = of_classes(found, truth, image_path=["test/dent/0.png"])
    query = episode(defect=True)
    query.gt_mask, query.pred_mask, query.anomaly_map = classes.gt_mask, classes.pred_mask, classes.anomaly_map
    classes.ignore_mask = query.ignore_mask = ignore
    values = played(tmp_path, classes)
    assert values == pytest.approx(
        dict.fromkeys(("pixel_AUROC", "pixel_AUPRO", "pixel_F1Score", "IoU/dent", "mIoU"), 1)
    )
    pixels = json.loads((tmp_path / "classes.json").read_text())["pixels"]
    assert pixels == [[8 * 8 - 5, 0, 0], [0, 2, 0], [0, 0, 0]]
    values = played(tmp_path, query, episodes=["cup/dent"])
    assert {values[name] for name in ("mIoU", "FB-IoU", "pixel_AUROC")} == {1}


def test_batches_without_paths_say_that_the_class_is_unknown(tmp_path, caplog):
    played(tmp_path, *[of_classes(row(1, 1), row(1, 1).bool()) for _ in range(2)])
    results = json.loads((tmp_path / "classes.json").read_text())
    assert results["truth"] == ["background", "dent", "hole", "other defects"]
    assert results["pixels"][3] == [0, 4, 0]
    (said,) = [record.message for record in caplog.records if "image_path" in record.message]
    assert said == (
        "Batches without image_path and mask_path do not tell the class of a defect: it counts as one of the 'other "
        "defects'. Use a datamodule that reads files, in folders with the names of the classes."
    )


def test_probabilities_without_a_post_processor_are_decided_at_one_half(tmp_path):
    images = [episode(defect=True), episode(defect=False, counted=False)]
    for image in images:
        image.pred_mask = image.pred_label = None
    values = played(tmp_path, *images, episodes=["cup/dent"])
    assert (values["mIoU"], values["image_F1Score"]) == (1, 1)


class Weighed(SofsEvaluator):
    """Weighs all that it keeps after every batch."""

    sizes = ()

    def on_test_batch_end(self, *args, **kwargs):
        super().on_test_batch_end(*args, **kwargs)
        self.sizes = (*self.sizes, len(pickle.dumps(self)))


def test_what_is_kept_does_not_grow_with_the_images(tmp_path):
    evaluator = Weighed()
    played(tmp_path, *[batch(defect=i % 2 == 0, size=300) for i in range(12)], evaluator=evaluator)
    # what grows are the scores of the images, a few bytes each; a map of this size has 360,000
    assert evaluator.sizes[-1] - evaluator.sizes[1] < 20_000
    assert len(pickle.dumps(evaluator)) < 100_000  # and nothing of it is left in an exported model


def test_a_report_of_classes_is_written_whole_or_not_at_all(tmp_path):
    played(tmp_path, of_classes(row(1, 1), row(1, 1).bool(), image_path=["dent/0.png"]))
    before = (tmp_path / "classes.json").read_text()
    assert json.loads(before)["iou"] == {"dent": 1}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # as on a full disk
    try:
        with pytest.raises(OSError, match="too large"):
            write_results(ClassResults(["background"], ["background"], [[9]], {}), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "classes.json").read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["classes.json"]


# -- threshold -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.floats(2**-100, 2**100, width=32), st.booleans())
def test_the_lowest_score_of_a_bin_lies_in_it_and_the_next_lower_number_does_not(score, negative):
    score = -score if negative else score
    number = int(score_bins(torch.tensor([score]))[0])
    lowest = torch.tensor([lowest_score(number)])
    assert float(lowest) <= score
    assert int(score_bins(lowest)[0]) == number
    assert int(score_bins(torch.nextafter(lowest, torch.tensor([-torch.inf])))[0]) < number


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_the_threshold_is_anomalibs_up_to_the_width_of_a_bin(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(2, 30, 20, generator=generator) < 0.2
    maps = (torch.rand(2, 30, 20, generator=generator) + 0.3 * truth) / 1.3
    item = ImageBatch(image=torch.zeros(2, 3, 30, 20), anomaly_map=maps, gt_mask=truth)
    reached = []
    for kind in (F1Threshold, F1AdaptiveThreshold):
        metric = kind(fields=["anomaly_map", "gt_mask"], strict=False)
        metric.update(item)
        found = maps >= metric.compute()
        reached.append(float(2 * (found & truth).sum() / (found.sum() + truth.sum())))
    # a bin may hold a few pixels more than the best threshold would take
    assert reached[0] == pytest.approx(reached[1], abs=2e-3)


def test_without_a_defective_pixel_the_limit_of_the_support_stays(caplog):
    metric = F1Threshold(fields=["anomaly_map", "gt_mask"], strict=False)
    maps = torch.rand(1, 8, 8)
    metric.update(ImageBatch(image=torch.zeros(1, 3, 8, 8), anomaly_map=maps, gt_mask=torch.zeros(1, 8, 8).bool()))
    assert float(metric.compute()) == 0.5
    assert "The validation data shows no defective pixel" in caplog.text
