"""Pascal VOC: 2007 for classification (several classes an image), 2012 for segmentation."""

import numpy as np
from PIL import Image

from strata.curation.errors import ConfigError
from strata.eval.layouts.files import IGNORE, FilesPool, MapsPool, check_files, choose, need, open_root

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CLASSIFICATION = "ROOT/VOCdevkit/VOC2007/{ImageSets/Main/CLASS_SPLIT.txt, JPEGImages/*.jpg}"
SEGMENTATION = "ROOT/VOCdevkit/VOC2012/{ImageSets/Segmentation/SPLIT.txt, JPEGImages/*.jpg, SegmentationClass/*.png}"


def voc2007(root: str, split: str) -> FilesPool:
    """VOC2007 classification: the columns "positive" and "difficult" hold the classes of an image; difficult ones do not count.

    Source: Everingham et al., IJCV 2010; the devkit's lists (1 = there, 0 = difficult, -1 = not there).

    Args:
        root: folder that holds ``VOCdevkit``.
        split: "train", "val", "trainval" or "test".
    """
    choose(split, ("train", "val", "trainval", "test"))
    folder = open_root(root, CLASSIFICATION) / "VOCdevkit" / "VOC2007"
    positive: dict[str, list[int]] = {}
    difficult: dict[str, list[int]] = {}
    for label, name in enumerate(CLASSES):
        for line in (
            need(folder / "ImageSets" / "Main" / f"{name}_{split}.txt", CLASSIFICATION).read_text().splitlines()
        ):
            if not line.strip():
                continue
            image, flag = line.split()
            positive.setdefault(image, [])
            difficult.setdefault(image, [])
            if flag in ("1", "0"):
                (positive if flag == "1" else difficult)[image].append(label)
    images = sorted(image for image in positive if positive[image] or difficult[image])
    files = [f"JPEGImages/{image}.jpg" for image in images]
    check_files(folder, files, CLASSIFICATION)
    return FilesPool(
        f"voc2007-{split}",
        folder,
        files,
        [(positive[image] or difficult[image])[0] for image in images],
        CLASSES,
        extra={"positive": [positive[i] for i in images], "difficult": [difficult[i] for i in images]},
        about={"layout": "voc2007", "split": split},
    )


def voc2012_segmentation(root: str, split: str, maps: str = "SegmentationClass") -> MapsPool:
    """VOC2012 segmentation: 20 classes and background; the outline (255) does not count.

    Args:
        root: folder that holds ``VOCdevkit``.
        split: a list in ImageSets/Segmentation: "train", "val", or "train_aug" where it was put.
        maps: folder of the maps; "SegmentationClassAug" for the augmented list (SBD, Hariharan et al. 2011).
    """
    folder = open_root(root, SEGMENTATION) / "VOCdevkit" / "VOC2012"
    listed = need(folder / "ImageSets" / "Segmentation" / f"{split}.txt", SEGMENTATION).read_text().split()
    files, targets = (
        [f"{place}/{name}{ending}" for name in listed] for place, ending in (("JPEGImages", ".jpg"), (maps, ".png"))
    )
    check_files(folder, files, SEGMENTATION)
    check_files(folder, targets, SEGMENTATION)
    names = ["background", *CLASSES]
    about = {"layout": "voc2012", "split": split, "maps": maps}
    return MapsPool(f"voc2012-{split}", folder, files, targets, ClassMap(len(names)), names, about=about)


class ClassMap:
    """Reads a map of class ids stored in a PNG, grey or with a palette.

    Args:
        n_classes: ids from 0; what is above and not ``IGNORE`` is an error.
        lookup: stored value -> class id; the others are ``IGNORE``. None: as stored.
    """

    def __init__(self, n_classes: int, lookup: dict[int, int] | None = None) -> None:
        self.n_classes = n_classes
        self.lookup = None if lookup is None else dict(sorted(lookup.items()))
        if n_classes > IGNORE:
            raise ConfigError("pool.classes", f"{n_classes} classes", f"use at most {IGNORE}")

    def __call__(self, image: Image.Image) -> np.ndarray:
        """uint8 [height, width]. Raises a ValueError on an id outside the classes."""
        stored = np.asarray(image)
        if stored.ndim != 2:
            raise ValueError(f"a map of class ids has one channel, this one {stored.shape}")
        if self.lookup is not None:
            table = np.full(max(int(stored.max()), *self.lookup) + 1, IGNORE, np.uint8)
            table[list(self.lookup)] = list(self.lookup.values())
            stored = table[stored]
        bad = (stored >= self.n_classes) & (stored != IGNORE)
        if bad.any():
            raise ValueError(f"class {int(stored[bad][0])} in a map of {self.n_classes} classes")
        return stored.astype(np.uint8)

    def __repr__(self) -> str:
        return f"ClassMap({self.n_classes}, {self.lookup})"
