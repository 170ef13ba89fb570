"""The search of a folder: a model whose features are kept, on all cores, in the background."""

import ctypes
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from anomalib_sofs.find import make_model
from anomalib_sofs.model import Sofs, SofsModel, SupportSet
from anomalib_sofs.model.encoding import SupportEncoding
from anomalib_sofs.model.torch_model import inside_of
from anomalib_sofs.tensors import read_image

from .features import FeatureStore, digest_of, remember

logger = logging.getLogger(__name__)

CACHE_GB = 8.0
"""Of features on disk: 700 windows of 512 pixels."""
MOST_WORKERS = 4
"""Each takes a gigabyte while it extracts features."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of parameters in glibc's malloc.h."""
KEPT_BYTES = 2**30


def _keep_memory() -> None:
    """Let glibc keep what is freed: asking the kernel for every large map anew takes an eighth of a search's time."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        for parameter, size in ((M_MMAP_THRESHOLD, KEPT_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES)):
            ctypes.CDLL(None).mallopt(parameter, size)


class Engine:
    """A model that looks into a store before it computes; made when it is first needed.

    Args:
        folder: Of the store.
        ckpt_path: Checkpoint of a trained model; ``None`` takes the packaged one.
        cache_gb: Gigabytes of the store.
        model: A model that is there already.
    """

    def __init__(self, folder: Path, ckpt_path: Path | None, cache_gb: float, model: SofsModel | None = None) -> None:
        self._folder, self._ckpt_path, self._bytes = folder, ckpt_path, int(cache_gb * 1e9)
        self._model = model
        self._store: FeatureStore | None = None

    @property
    def model(self) -> SofsModel:
        """The model."""
        if self._model is None:
            made = Sofs(visualizer=False) if self._ckpt_path is None else make_model(None, self._ckpt_path, {})
            self._model = made.model
        if self._store is None:
            _keep_memory()
            self._store = FeatureStore(self._folder, self._bytes)
            remember(self._model.eval(), self._store)
        return self._model

    def encode(self, support: SupportSet) -> SupportEncoding:
        """Encode a support set; opinions that were formed with another one are forgotten.

        Raises:
            RuntimeError: If the head was never trained.
        """
        model, store = self.model, self._store
        assert store is not None  # noqa: S101 - made with the model
        store.keep_opinions(None)  # a class is judged before it is calibrated, too
        encoding = model.encode(support)
        store.keep_opinions(digest_of(support))
        return encoding

    @torch.no_grad()
    def logits(self, file: Path, encoding: SupportEncoding) -> NDArray[np.float32]:
        """Return the logits of each class ``(K, H, W)``.

        Raises:
            ValueError: If there is no region of interest for the image, or one of another size.
        """
        image = self.model.normalise(read_image(file))[None]
        return self.model.logits(image, encoding, inside_of(image, encoding, [str(file)]))[0].numpy()


class Search:
    """One search at a time, in a thread of its own; its attributes say how far it is.

    Args:
        engine: What segments images.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.running = False
        self.phase = ""
        """What it does."""
        self.done = 0
        self.total = 0
        """Of the images, how many are done, and how many there are."""
        self.error = ""
        """Why it failed."""
        self.ended = 0
        """Searches that have come to their end, whichever it was."""
        self.changes = 0
        """Grows whenever there is something new to show."""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self, steps: Callable[["Search"], None]) -> None:
        """Run the steps of a search in the background, unless one is running."""
        with self._lock:
            if self.running:
                return
            self.running, self.error = True, ""
        self._stopped.clear()
        self.say("Starting")
        self._thread = threading.Thread(target=self._run, args=(steps,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let it end after the images that it is busy with."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def wait(self) -> None:
        """Wait for its end.

        Raises:
            RuntimeError: If it failed.
        """
        if self._thread is not None:
            self._thread.join()
        if self.error:
            raise RuntimeError(self.error)

    def _run(self, steps: Callable[["Search"], None]) -> None:
        try:
            steps(self)
        except Exception as error:
            logger.debug("The search failed.", exc_info=True)
            self.error = str(error) or repr(error)
        finally:
            self.running = False
            self.ended += 1
            self.touch()

    def found(self, files: Mapping[str, Path], encoding: SupportEncoding) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the logits of one image after the other as they are made, one image per core at a time."""

        def one(name: str, file: Path) -> tuple[str, NDArray[np.float32]] | None:
            return None if self._stopped.is_set() else (name, self.engine.logits(file, encoding))

        workers = min(os.cpu_count() or 1, MOST_WORKERS)
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for future in as_completed([pool.submit(one, name, file) for name, file in files.items()]):
                found = future.result()
                if found is not None:
                    yield found

    def say(self, phase: str, done: int = 0, total: int = 0) -> None:
        """Tell what is done now."""
        self.phase, self.done, self.total = phase, done, total
        self.touch()

    def advance(self) -> None:
        """Tell that an image is done."""
        self.done += 1
        self.touch()

    def touch(self) -> None:
        """Tell that there is something new to show."""
        self.changes += 1
