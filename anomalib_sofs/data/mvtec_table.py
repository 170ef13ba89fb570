"""The samples table of a category in MVTec AD's layout.

anomalib's own loader takes ``test/Good`` and ``test/__MACOSX`` for defects, reads some suffixes only, and leaves out
every file that is reached through a link which leaves the category, without a word.
"""

from pathlib import Path

from pandas import DataFrame

from anomalib_sofs.annotations import mvtec
from anomalib_sofs.annotations.labels import NORMAL, is_normal_name
from anomalib_sofs.annotations.places import named_folders
from anomalib_sofs.images import image_files, sub_folders

COLUMNS = ["path", "split", "label", "image_path", "mask_path", "label_index"]
TRAIN, TEST = "train", "test"


def mvtec_samples(category: Path) -> DataFrame:
    """Read ``train/good``, ``test/CLASS`` and ``ground_truth/CLASS``.

    Args:
        category: Their folder.

    Returns:
        The columns of anomalib's loader: ``path, split, label, image_path, mask_path, label_index``, by image path; the
        mask path of normal images is empty.

    Raises:
        ValueError: If a defective image has no mask or a mask no image, or two share a stem, naming the files.
        FileNotFoundError: If a class has masks but no images.
    """
    rows = [
        (TRAIN, NORMAL if is_normal_name(folder.name) else folder.name, image, "")
        for place in named_folders(category, TRAIN)
        for folder in sub_folders(place)
        for image in image_files(folder)
    ]
    for folder in mvtec.class_folders(category):
        if folder.masks is None:
            rows += [(TEST, NORMAL, image, "") for image in image_files(folder.images)]
        else:
            rows += [(TEST, folder.label, image, str(mask)) for image, mask in mvtec.pairs_of(folder)]
    samples = DataFrame(
        [(str(category), split, label, str(image), mask, int(label != NORMAL)) for split, label, image, mask in rows],
        columns=COLUMNS,
    ).sort_values("image_path", ignore_index=True)
    samples.attrs["task"] = "segmentation"
    return samples
