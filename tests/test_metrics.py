"""Metrics against numbers worked out by hand and against anomalib's own."""

from types import SimpleNamespace

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AUPRO
from hypothesis import given, settings
from hypothesis import strategies as st

from anomalib_sofs.data.items import EpisodeBatch
from anomalib_sofs.metrics import EpisodeIoU, NativeAUPRO, SofsEvaluator
from anomalib_sofs.metrics.class_confusion import ClassConfusion, class_of


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


# -- AUPRO -----------------------------------------------------------------------------------------------------------


def aupro(kind, *batches):
    metric = kind(fields=["anomaly_map", "gt_mask"], strict=False)
    for maps, masks in batches:
        metric.update(ImageBatch(image=torch.zeros(len(maps), 3, *maps.shape[-2:]), anomaly_map=maps, gt_mask=masks))
    return float(metric.compute())


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_aupro_equals_anomalibs_on_images_of_one_size(seed):
    generator = torch.Generator().manual_seed(seed)
    batches = [
        (torch.rand(2, 24, 20, generator=generator), torch.rand(2, 24, 20, generator=generator) < 0.15)
        for _ in range(2)
    ]
    assert aupro(NativeAUPRO, *batches) == pytest.approx(aupro(AUPRO, *batches), abs=1e-6)


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
    assert aupro(NativeAUPRO, small, tall) == pytest.approx((0.3 - 2 / 9) / 0.3, abs=1e-6)


def test_regions_of_different_images_count_the_same_whatever_their_size():
    one = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]] * 2]), torch.tensor([[[1, 0, 0, 0, 0]] * 2])
    missed = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)
    missed[1][0, 1:4, 1:4] = 1
    # region one is found before any false positive, the other only with all of the background: mean overlap rises
    # linearly from one half to one along the false positive rate
    expected = (0.5 * 0.3 + 0.5 * 0.3**2 / 2) / 0.3
    assert aupro(NativeAUPRO, (one[0], one[1].bool()), (missed[0], missed[1].bool())) == pytest.approx(
        expected, abs=1e-5
    )


def test_an_image_that_is_defect_all_over_counts_as_a_region():
    whole = torch.full((1, 4, 4), 0.9), torch.ones(1, 4, 4).bool()
    half = torch.tensor([[[0.1, 0.2, 0.3], [0.1, 0.2, 0.8]]]), torch.tensor([[[0, 0, 0], [0, 0, 1]]]).bool()
    assert aupro(NativeAUPRO, whole, half) == pytest.approx(1.0)


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


class Logger:
    """Stands for the Lightning module: keeps what is logged."""

    device = torch.device("cpu")

    def log_dict(self, values, **_):
        self.values = {name: float(value) for name, value in values.items()}


def trainer(*class_names):
    datamodule = (
        SimpleNamespace(class_names=class_names, test_data=SimpleNamespace(class_names=class_names))
        if class_names
        else None
    )
    return SimpleNamespace(num_devices=1, world_size=1, testing=True, test_dataloaders=None, datamodule=datamodule)


def batch(defect, cls=EpisodeBatch, score=0.9, **fields):
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    maps = torch.full((1, 8, 8), 0.1)
    if defect:
        mask[:, 2:4, 2:4] = True
        maps[:, 2:4, 2:4] = score
    return cls(
        image=torch.zeros(1, 3, 8, 8), gt_mask=mask, gt_label=torch.tensor([defect]), anomaly_map=maps,
        pred_mask=maps > 0.5, pred_score=maps.amax((1, 2)), pred_label=maps.amax((1, 2)) > 0.5, **fields,
    )  # fmt: skip


def results_of(run, *batches):
    evaluator, logger = SofsEvaluator(), Logger()
    evaluator.setup(run, logger, "test")
    for i, item in enumerate(batches):
        evaluator.on_test_batch_end(run, logger, None, item, i)
    evaluator.on_test_epoch_end(run, logger)
    return logger.values


def episode(defect, counted=True):
    return batch(defect, category=["cup"], defect_class=["dent"], counted=torch.tensor([counted]))


def test_episodes_of_defects_only_have_no_image_auroc():
    values = results_of(trainer("cup/dent"), episode(defect=True), episode(defect=True))
    assert values == pytest.approx(
        {"IoU/cup/dent": 1, "mIoU": 1, "FB-IoU": 1, "image_F1Score": 1, "pixel_AUROC": 1}, abs=1e-3
    )


def test_episodes_with_normal_queries_have_one_and_those_do_not_count_for_iou():
    normal = episode(defect=False, counted=False)
    normal.pred_mask[:] = True
    values = results_of(trainer("cup/dent"), episode(defect=True), normal)
    assert values["image_AUROC"] == 1
    assert values["mIoU"] == 1


def test_normal_images_only_have_no_auroc_at_all():
    values = results_of(trainer(), batch(defect=False, cls=ImageBatch), batch(defect=False, cls=ImageBatch))
    assert not [name for name in values if "AUROC" in name]


def test_anomaly_detection_has_image_and_pixel_metrics():
    values = results_of(trainer(), batch(defect=True, cls=ImageBatch), batch(defect=False, cls=ImageBatch))
    assert values == pytest.approx(
        {"image_AUROC": 1, "image_F1Score": 1, "pixel_AUROC": 1, "pixel_AUPRO": 1, "pixel_F1Score": 1}, abs=1e-4
    )


def test_a_second_test_starts_from_nothing():
    evaluator, logger, run = SofsEvaluator(), Logger(), trainer("cup/dent")
    evaluator.setup(run, logger, "test")
    for score in (0.2, 0.9):  # first everything is missed, then everything is found
        evaluator.on_test_batch_end(
            run,
            logger,
            None,
            batch(True, score=score, category=["cup"], defect_class=["dent"], counted=torch.tensor([True])),
            0,
        )
        evaluator.on_test_epoch_end(run, logger)
    assert logger.values["mIoU"] == 1


def test_repeats_of_a_distributed_sampler_are_left_out():
    """Three queries on two processes: the second process repeats the first query."""
    run = trainer("cup/dent")
    run.world_size, run.global_rank, run.test_dataloaders = 2, 1, SimpleNamespace(dataset=range(3), batch_size=1)
    evaluator, logger = SofsEvaluator(), Logger()
    evaluator.setup(run, logger, "test")
    for i in range(2):
        evaluator.on_test_batch_end(run, logger, None, episode(defect=True), i)
    assert int(evaluator.iou.matrices[0].compute().sum()) == 64  # pixels of one query
