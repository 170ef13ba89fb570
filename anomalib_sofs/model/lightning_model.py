"""SOFS as an anomalib model: `anomalib train --model Sofs`."""

import logging
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from anomalib import LearningType
from anomalib.models.components import AnomalibModule
from anomalib.pre_processing import PreProcessor
from cachetools import LRUCache
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from anomalib_sofs import user_errors
from anomalib_sofs.arguments import (
    ExistingFile,
    ExistingFolder,
    ExistingPath,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
    SupportSelection,
    checked,
    one_of,
)
from anomalib_sofs.decision import decide
from anomalib_sofs.images import needs_own_reader
from anomalib_sofs.metrics.evaluator import SofsEvaluator
from anomalib_sofs.queries import QueryCheck
from anomalib_sofs.results.callback import ResultsWriter
from anomalib_sofs.results.query_names import image_files
from anomalib_sofs.tensors import read_image
from anomalib_sofs.visualization.visualizer import SofsVisualizer

from .backbone import DEFAULT_BACKBONE, IMAGE_MEAN, IMAGE_STD, Backbone
from .caching import kept
from .conditions import Conditions
from .crop_cache import crop_cache
from .encoding import SupportEncoding, encoding_bytes
from .episodes import episodes_of
from .equal_sizes import check_not_resized
from .exporting.mixin import SofsExport
from .false_alarms import GoodImages, check_one_category, good_images
from .heads import HeadName, SegmentationHead, build_head, head_layers
from .normal_images import normal_training_images
from .optimization import polynomial_decay
from .post_processor import SofsPostProcessor
from .region_of_interest import RegionOfInterest
from .run import announce_end, check_data, epochs_left_to_us, refuse_unread_suffixes
from .segmented_batch import check_finite, segment_batch
from .support import SupportSet
from .torch_model import SofsModel
from .weights import Built, built_for, load_into, packaged_weights, read_state
from .witness import Witness, say_no_effect

logger = logging.getLogger(__name__)

CACHE_BYTES = 2**30


class Sofs(SofsExport, AnomalibModule):  # type: ignore[misc]  # anomalib's to_onnx, not Lightning's
    """Small Object Few-shot Segmentation (Zhang et al. 2024, arXiv 2407.21351).

    With a support folder that has masks, or an episode datamodule, it segments what the support marks (FSS). With a
    stock datamodule the first ``shot`` normal training images are the support, and it finds whatever is off (FAD).

    Args:
        backbone: Any timm name; the default head reads CNNs with strides 2 to 32, and vision transformers.
        layers: Feature layers of the backbone; ``None`` takes the head's choice.
        window_size: Largest window in pixels; ``None`` takes the head's choice.
        shot: Support images in FAD; episode datamodules have their own.
        crops_per_shot: Most windows cut from a support image.
        support: Folder with the support set, see :meth:`SupportSet.from_folder`.
        support_normal: Whether all images of that folder are good parts, whatever it is called.
        weights: ``"default"`` (the trained head that comes with the package, where one exists for this backbone),
            ``None`` (untrained), or a path: our checkpoint or the authors' published ``.pth``.
        head: ``"relation"`` (default) or ``"paper"``, the published form.
        head_options: Keyword arguments of the head, among them the paper's ablations. Weights of ours in a
            ``.safetensors`` file know their layers, window and options: they are taken where nothing else is given.
        support_selection: In FAD, the ``"first"`` normal images by name or a ``"random"`` draw with ``support_seed``.
        support_seed: Seed of that draw.
        threshold: In FSS, the probability from which a pixel counts as defect. Every map is shifted so that it lies at
            0.5: regions, masks, labels, metrics and exports follow. A larger one finds less, and less that is wrong.
        good: Folder of good images, none of them in the support set: they tell the threshold of each class and, from
            four on, what is no defect however much it looks like one, see
            :mod:`.false_alarms`. It counts where it is stricter than ``threshold``; in FAD it takes the place of what
            the support tells and of anomalib's adaptive threshold.
        false_alarms: Share of good images that may get a region (of each class), 0.05 if nothing is given.
        witness: Whether the images that are predicted or tested, 30 or more, show what is no defect: what the most
            usual of them show, see :mod:`.witness`. For few-shot segmentation where no good images are at hand, and
            most images are good.
        roi: Where defects count: a mask of the size of every image, or a folder of masks, matched by stem.
        least_area: Pixels of the smallest region that counts. In FAD anomalib's adaptive threshold does not count then.
        lr: Peak learning rate of training. The packaged head is good already: a larger rate fits it to the base
            categories and away from the novel ones (measured, see docs/experiments.md).
        epochs: Training epochs if neither ``trainer.max_epochs`` nor another limit is given; ``None`` leaves the end to
            the trainer alone.
        pre_processor: anomalib component, or whether to use the default one.
        post_processor: Likewise.
        evaluator: Likewise.
        visualizer: Likewise.

    Raises:
        ValueError: If a value is not possible, naming the argument.
    """

    model: SofsModel
    post_processor: SofsPostProcessor | None

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        layers: list[NonNegativeInt] | None = None,
        window_size: PositiveInt | None = None,
        shot: PositiveInt = 1,
        crops_per_shot: PositiveInt = 4,
        support: ExistingFolder | None = None,
        weights: Literal["default"] | ExistingFile | None = "default",
        head: HeadName = "relation",
        head_options: dict[str, Any] | None = None,
        support_selection: SupportSelection = "first",
        support_seed: NonNegativeInt = 0,
        threshold: OpenUnitInterval = 0.5,
        lr: PositiveFloat = 1e-5,
        epochs: PositiveInt | None = 1,
        support_normal: bool = False,  # noqa: FBT001, FBT002 - arguments of a command line
        *,
        good: ExistingFolder | None = None,
        false_alarms: OpenUnitInterval | None = None,
        witness: bool = False,
        roi: ExistingPath | None = None,
        least_area: PositiveInt | None = None,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: SofsEvaluator | bool = True,
        visualizer: SofsVisualizer | bool = True,
    ) -> None:
        user_errors.install()
        # plain values, before anomalib saves them: a checkpoint must load with weights_only=True
        layers = None if layers is None else [checked("layers", layer, NonNegativeInt) for layer in layers]
        window_size = checked("window_size", window_size, PositiveInt)
        shot = checked("shot", shot, PositiveInt)
        crops_per_shot = checked("crops_per_shot", crops_per_shot, PositiveInt)
        support = checked("support", support, ExistingFolder)
        weights = weights if weights == "default" else checked("weights", weights, ExistingFile)
        head = one_of("head", head, HeadName)  # type: ignore[assignment]
        support_selection = one_of("support_selection", support_selection, SupportSelection)  # type: ignore[assignment]
        support_seed = checked("support_seed", support_seed, NonNegativeInt)
        threshold = checked("threshold", threshold, OpenUnitInterval)
        lr = checked("lr", lr, PositiveFloat)
        epochs = checked("epochs", epochs, PositiveInt)
        good = checked("good", good, ExistingFolder)
        false_alarms = checked("false_alarms", false_alarms, OpenUnitInterval)
        roi = checked("roi", roi, ExistingPath)
        self.least_area = checked("least_area", least_area, PositiveInt)
        super().__init__(
            pre_processor=pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        # a checkpoint carries the encoding and the weights: the paths they came from need not exist any more
        carried = ("support", "weights", "good", "false_alarms", "roi", "least_area")
        self.hparams.update(dict.fromkeys(carried) | {"support_normal": False})
        self.shot = shot
        self.support_folder = support
        self.support_normal = support_normal
        self.support_selection = support_selection
        self.support_seed = support_seed
        self.witness = witness
        self._witness: Witness | None = None
        self.lr = lr
        self.epochs = epochs
        self._encodings: LRUCache[object, SupportEncoding] = LRUCache(CACHE_BYTES, getsizeof=encoding_bytes)
        self._crops = crop_cache(CACHE_BYTES)
        with user_errors.as_message():
            self.good = good_images(good, false_alarms)
            if witness and self.good is not None:
                msg = "witness=True is for where there are no good images, but good names some. Leave out one of them."
                raise ValueError(msg)
            self.roi = None if roi is None else RegionOfInterest.from_path(roi)
            if weights == "default":
                weights = packaged_weights(head, backbone)
            built = Built(layers, window_size, head_options or {})
            if weights is not None:
                state = read_state(weights)
                built = built_for(weights, built)
                # a checkpoint brings the weights, but not their file
                self.hparams.update(built._asdict())
            features = Backbone(backbone, head_layers(head, backbone) if built.layers is None else built.layers)
            self.model = SofsModel(
                features,
                build_head(head, features, built.window_size, **built.head_options),
                crops_per_shot=crops_per_shot,
                threshold=threshold,
            )
            if weights is not None:
                load_into(self._head, state, weights)
                self.model.head_trained.fill_(value=True)

    @property
    def _head(self) -> nn.Module:
        """The segmentation head as a module."""
        return cast("nn.Module", self.model.head)

    @property
    def _conditions(self) -> Conditions:
        """What counts beside the support set."""
        return Conditions(self.roi, self.least_area, self.good)

    # -- support -------------------------------------------------------------------------------------------------

    def set_support(self, support: SupportSet, good: GoodImages | None = None) -> None:
        """Encode a support set and keep it: predictions, checkpoints and exports use it from now on.

        Args:
            support: The examples.
            good: Good images that tell the thresholds; ``None`` takes those of the argument ``good``, if any.
        """
        self._keep(self.model.encode(support), good or self.good)

    def _keep(self, encoding: SupportEncoding, good: GoodImages | None) -> None:
        self.model.support = encoding.to(self.device)
        self._conditions.impose(self.model, encoding, good)
        self._choose_scale(encoding)

    def _choose_scale(self, encoding: SupportEncoding) -> None:
        if self.post_processor is not None:
            known = "limits" in encoding.record or encoding.least_area > 1
            self.post_processor.use_probabilities(probabilities=not encoding.normal or known)

    def prepare_support(self) -> None:
        """Make sure that there is a support encoding: from folder, checkpoint or the normal training images."""
        if self.support_folder is not None:
            self.set_support(SupportSet.from_folder(self.support_folder, normal=self.support_normal))
            self.support_folder = None
        elif self._episodic:
            if self.good is not None and self.trainer.testing:
                check_one_category(self.datamodule.class_names)
            if self.post_processor is not None:
                self.post_processor.use_probabilities(probabilities=True)
        elif len(self.model.support) == 0:
            self.set_support(
                normal_training_images(self.datamodule, self.shot, self.support_selection, self.support_seed)
            )
        elif self._conditions.adapt(self.model, self.model.support):  # of a checkpoint, or prepared before
            self._choose_scale(self.model.support)

    @property
    def _episodic(self) -> bool:
        """Whether the data brings its own support sets."""
        return hasattr(self.datamodule, "class_names")

    # -- the run -------------------------------------------------------------------------------------------------

    @property
    def datamodule(self) -> Any:
        """The datamodule of the run, ``None`` where there is none or no run at all."""
        try:
            return getattr(self.trainer, "datamodule", None)
        except RuntimeError:  # Lightning's answer where no trainer is attached
            return None

    def prepare_data(self) -> None:
        """Say which datamodule reads the files, before a stock one fails to find them."""
        refuse_unread_suffixes(self.datamodule)

    def setup(self, stage: str) -> None:
        """Check that batches need no resizing."""
        if not self._episodic:
            check_data(self.datamodule, stage)
        elif stage == "fit":  # the sanity check before training may use the head as it is
            self.model.head_trained.fill_(value=True)

    def on_train_start(self) -> None:
        """Say when training ends, and end at once where a resumed training is over already."""
        if self._episodic and self._epochs is not None:
            announce_end(self.trainer, self._epochs)
            self._stop_after(self.trainer.current_epoch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """End few-shot anomaly detection with its first batch: it learns nothing, but validation sets the threshold."""
        del batch, batch_idx
        if not self._episodic:
            self.trainer.should_stop = True

    def on_train_epoch_end(self) -> None:
        """Stop after ``epochs`` where the user set no limit."""
        self._stop_after(self.trainer.current_epoch + 1)

    @property
    def _epochs(self) -> int | None:
        """After how many epochs we end the training ourselves; ``None`` where the trainer does."""
        return epochs_left_to_us(self.trainer, self.epochs)

    def _stop_after(self, done: int) -> None:
        if self._epochs is not None and done >= self._epochs:
            self.trainer.should_stop = True

    # -- Lightning hooks -----------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Load the backbone, or encode the support where nothing is trained."""
        self.model.backbone.ensure_weights()
        self.prepare_support()

    def on_validation_start(self) -> None:
        """Make sure that there is a support set; encodings made by an earlier state of the head are forgotten."""
        self._encodings.clear()
        self.prepare_support()

    def on_test_start(self) -> None:
        """Make sure that there is a support set; encodings made by an earlier state of the head are forgotten."""
        self._encodings.clear()
        self.prepare_support()
        self._hear_witness(self.trainer.test_dataloaders)

    def on_test_end(self) -> None:
        """Free the memory of the support encodings."""
        self._witness = None
        self._encodings.clear()
        self._crops.clear()

    def on_predict_start(self) -> None:
        """Make sure that there is a support set, and a region of interest for every image where there is one at all."""
        self.prepare_support()
        self._hear_witness(self.trainer.predict_dataloaders)
        if self.model.support.roi is not None:
            self.model.support.roi.check(image_files(self.trainer.predict_dataloaders))

    def on_predict_end(self) -> None:
        """Forget what was usual among the images of this run."""
        self._witness = None

    def _hear_witness(self, loaders: Any) -> None:
        """Let the images of the run show what is usual, where they are to."""
        if self.witness and self.model.support.normal:
            say_no_effect("anomaly detection compares with its normal images already")
        elif self.witness:
            self._witness = Witness(self.model, image_files(loaders))

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Read images of more than 8 bits and turned ones again: anomalib's own reader gets them wrong."""
        del dataloader_idx
        if self.trainer.training or self._episodic or not batch.image_path:
            return batch
        check_not_resized(batch.image_path, batch.image.shape[-2:])
        if any(needs_own_reader(path) for path in batch.image_path):
            batch.image = torch.stack([read_image(path) for path in batch.image_path])
        return batch

    # -- steps ---------------------------------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """Learn from a batch of episodes; few-shot anomaly detection learns nothing."""
        del batch_idx
        loss = self.training_loss(batch)
        if loss is not None:
            self.model.head_trained.fill_(value=True)
            self.log("train_loss", loss, prog_bar=True, on_epoch=True, on_step=False, batch_size=len(batch.image))
        return loss

    def training_loss(self, batch: Any) -> Tensor | None:
        """Compute the loss of a batch of training episodes; ``None`` where the data has none."""
        episodes = episodes_of(batch, self.model.normalise)
        return None if episodes is None else cast("SegmentationHead", self._head).loss(self.model.backbone, episodes)

    def validation_step(self, batch: Any, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Segment a batch."""
        del args, kwargs
        return self._segment(batch)

    def test_step(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Segment a batch."""
        del batch_idx, args, kwargs
        return self._segment(batch)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> STEP_OUTPUT:
        """Segment a batch."""
        del batch_idx, dataloader_idx
        return self._segment(batch)

    def _segment(self, batch: Any) -> Any:
        check_finite(batch)
        paths = getattr(batch, "support_paths", None)
        if paths is None:
            encodings = [self.model.support] * len(batch.image)
        else:
            supports = zip(paths, batch.support_mask_paths, strict=True)
            encodings = [self._encode_files(tuple(images), tuple(masks)) for images, masks in supports]
        if self._witness is not None:
            files = map(str, batch.image_path)
            encodings = [self._witness.beside(*pair) for pair in zip(encodings, files, strict=True)]
        segment_batch(self.model, batch, encodings)
        if self.post_processor is None:
            decide(batch)
        return batch

    def _encode_files(self, images: tuple[str, ...], masks: tuple[str, ...]) -> SupportEncoding:
        """Encode a query's support files; queries that share them share the encoding."""

        def encode() -> SupportEncoding:
            encoding = self.model.encode(SupportSet.from_files(images, masks), cache=self._crops).to(self.device)
            # validation sees base categories: the good images are of the one that is tested
            tested = self.good is not None and (self.trainer.testing or self.trainer.predicting)
            self._conditions.impose(self.model, encoding, self.good if tested else None)
            return encoding

        return kept(self._encodings, (images, masks), encode)  # one image may show defects of several classes

    # -- anomalib components -------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with polynomial decay; the transformer at ``lr``, the rest at twice that (Zhang et al. 2024)."""
        if not self._episodic:
            return None
        steps = self.trainer.estimated_stepping_batches
        if self._epochs is not None:
            steps = steps // (self.trainer.max_epochs or 1) * self._epochs
        return polynomial_decay(self._head, self.lr, int(steps))

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """None: anomalib would put them over what the user gave."""
        return {}

    @property
    def learning_type(self) -> LearningType:
        """One class: anomalib skips fitting for the few-shot type, but episodic training is fitting."""
        return LearningType.ONE_CLASS

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Normalise only: images keep their own size.

        Args:
            image_size: Ignored unless given by hand through anomalib's API; nothing is resized.
        """
        del image_size
        return PreProcessor(transform=Normalize(mean=list(IMAGE_MEAN), std=list(IMAGE_STD)))

    def configure_callbacks(self) -> Sequence[Callback]:
        """Add what writes results, with or without pictures, and what looks through the images before."""
        components: Any = super().configure_callbacks()
        return [*components, ResultsWriter(getattr(self.visualizer, "folder", None)), QueryCheck()]

    def configure_post_processor(self) -> SofsPostProcessor:
        """Return the post-processor for probabilities and distances."""
        return SofsPostProcessor()

    @staticmethod
    def configure_evaluator() -> SofsEvaluator:
        """Return the metrics of few-shot segmentation and anomaly detection."""
        return SofsEvaluator()

    @classmethod
    def configure_visualizer(cls) -> SofsVisualizer:  # type: ignore[override]  # any Visualizer will do
        """Return the visualizer that shows support, query, truth and prediction at native resolution."""
        return SofsVisualizer()

    # -- export --------------------------------------------------------------------------------------------------

    def prepare_export(self) -> None:
        """Encode the support folder, or the normal training images where there is no support yet."""
        if self.witness:
            say_no_effect("what is exported sees one image at a time, and no folder")
        self.prepare_support()
