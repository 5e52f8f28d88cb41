"""ImageNet and the test sets that its heads are reused on, each as it is published; class ids are those of ImageNet-1k."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strata.curation.errors import ConfigError, DataError
from strata.eval.layouts.files import FilesPool, choose, class_folders, images_in, need, open_root

IMAGENET = "ROOT/train/n01440764/*.JPEG, ROOT/val/n01440764/*.JPEG"
REAL = "real.json of google-research/reassessed-imagenet, a list of lists of class ids in the order of the 50,000 files"
OBJECTNET = (
    "ROOT/images/FOLDER/*.png, ROOT/mappings/{folder_to_objectnet_label.json, objectnet_to_imagenet_1k.json, "
    "pytorch_to_imagenet_2012_id.json, imagenet_to_label_2012_v2}"
)


def imagenet(root: str, split: str) -> FilesPool:
    """ImageNet-1k in class folders; the ids are the places of the sorted WordNet ids of ``train``.

    Raises:
        ConfigError: it is not there in this layout.
    """
    choose(split, ("train", "val"))
    folder = open_root(root, IMAGENET)
    names = imagenet_classes(root)
    return _in_folders(f"imagenet-{split}", folder / split, {name: i for i, name in enumerate(names)}, names, IMAGENET)


def imagenet_classes(root: str) -> list[str]:
    """The WordNet ids of the classes, by class id."""
    return class_folders(open_root(root, IMAGENET) / "train", IMAGENET)


def imagenet_v2(root: str, imagenet: str) -> FilesPool:
    """ImageNet-V2: folders are class ids "0" to "999". Source: Recht et al., arXiv:1902.10811; modestyachts/ImageNetV2.

    Args:
        root: e.g. imagenetv2-matched-frequency-format-val.
        imagenet: ROOT of ImageNet-1k, for the names of the classes.
    """
    names = imagenet_classes(imagenet)
    layout = f"ROOT/0/*.jpeg ... ROOT/{len(names) - 1}/*.jpeg"
    return _in_folders("imagenet_v2", open_root(root, layout), {str(i): i for i in range(len(names))}, names, layout)


def imagenet_subset(root: str, imagenet: str, name: str) -> FilesPool:
    """ImageNet-A, -R and Sketch: folders are WordNet ids, of all classes or of some (then only these can be predicted).

    Source: Hendrycks et al., arXiv:1907.07174 and arXiv:2006.16241; Wang et al., arXiv:1905.13549.
    """
    names = imagenet_classes(imagenet)
    layout = "ROOT/n01498041/*.jpg, one folder for each class that it has"
    return _in_folders(name, open_root(root, layout), {wnid: i for i, wnid in enumerate(names)}, names, layout)


def imagenet_real(imagenet: str, labels: str) -> FilesPool:
    """ReaL: the val images with all labels that are right; those with none are left out.

    Source: Beyer et al., arXiv:2006.07159; google-research/reassessed-imagenet#README.

    Args:
        imagenet: ROOT of ImageNet-1k; the files keep their published names, ``..._00000001.JPEG``.
        labels: path of real.json.
    """
    names = imagenet_classes(imagenet)
    folder = open_root(imagenet, IMAGENET) / "val"
    accepted: list[list[int]] = _read_json(open_root(labels, REAL), REAL, _real)
    files = [file for wnid in class_folders(folder, IMAGENET) for file in images_in(folder / wnid, folder)]
    numbers = [_number(file) for file in files]
    if sorted(numbers) != list(range(1, len(accepted) + 1)):
        problem = (
            f"{labels} has labels of {len(accepted)} images, and {folder} holds {len(files)} others or by other names"
        )
        raise DataError(f"pool.labels: {problem}; keep the published file names ILSVRC2012_val_00000001.JPEG")
    kept = [(file, accepted[number - 1]) for file, number in zip(files, numbers, strict=True) if accepted[number - 1]]
    _check_ids([label for _, right in kept for label in right], len(names), labels)
    return FilesPool(
        "imagenet_real",
        folder,
        [file for file, _ in kept],
        [right[0] for _, right in kept],
        names,
        extra={"accepted": [right for _, right in kept]},
        about={"layout": "imagenet_real"},
    )


def objectnet(root: str, imagenet: str, border: int = 2) -> FilesPool:
    """ObjectNet, the folders that have classes in ImageNet (113 of 313); only these classes can be predicted.

    An image is right if the prediction is one of the ImageNet classes of its folder. The red border is cut off.
    Source: Barbu et al., NeurIPS 2019; the mappings that come with it.
    """
    names = imagenet_classes(imagenet)
    folder = open_root(root, OBJECTNET)
    classes = _objectnet_classes(folder / "mappings", len(names))
    files, accepted = [], []
    for name in sorted(classes):
        found = images_in(need(folder / "images" / name, OBJECTNET), folder)
        files += found
        accepted += [classes[name]] * len(found)
    return FilesPool(
        "objectnet",
        folder,
        files,
        [right[0] for right in accepted],
        names,
        extra={"accepted": accepted},
        candidates=sorted({label for right in classes.values() for label in right}),
        border=border,
        about={"layout": "objectnet"},
    )


def _objectnet_classes(mappings: Path, n_classes: int) -> dict[str, list[int]]:
    """Folder -> class ids of ImageNet."""
    read = {
        name: _read_json(need(mappings / f"{name}.json", OBJECTNET), OBJECTNET, dict)
        for name in ("folder_to_objectnet_label", "objectnet_to_imagenet_1k", "pytorch_to_imagenet_2012_id")
    }
    lines = need(mappings / "imagenet_to_label_2012_v2", OBJECTNET).read_text().splitlines()
    id_of_line = {int(line): int(class_id) for class_id, line in read["pytorch_to_imagenet_2012_id"].items()}
    id_of_label = {label.strip(): id_of_line[i] for i, label in enumerate(lines) if i in id_of_line}
    found = {}
    for folder, label in read["folder_to_objectnet_label"].items():
        if label not in read["objectnet_to_imagenet_1k"]:
            continue
        wanted = [name.strip() for name in read["objectnet_to_imagenet_1k"][label].split("; ")]
        unknown = [name for name in wanted if name not in id_of_label]
        if unknown:
            raise DataError(
                f"{mappings}: ImageNet has no class {unknown[0]!r} (of {label!r}); fetch the mappings again"
            )
        found[folder] = [id_of_label[name] for name in wanted]
    _check_ids([label for right in found.values() for label in right], n_classes, str(mappings))
    return found


def _in_folders(name: str, root: Path, ids: dict[str, int], names: list[str], layout: str) -> FilesPool:
    """Images in class folders. Fewer folders than classes: the others cannot be predicted."""
    folders = class_folders(root, layout)
    unknown = [folder for folder in folders if folder not in ids]
    if unknown:
        problem = f"class {unknown[0]!r} of {root} is no class of ImageNet ({len(unknown)} of {len(folders)} are not)"
        raise DataError(f"pool.root: {problem}; the layout is {layout}")
    files = [file for folder in folders for file in images_in(root / folder, root)]
    if not files:
        raise ConfigError("pool.root", f"{root} holds no image", f"the layout is {layout}")
    labels = [ids[file.split("/", 1)[0]] for file in files]
    candidates = sorted(ids[folder] for folder in folders) if len(folders) < len(names) else None
    return FilesPool(name, root, files, labels, names, candidates=candidates, about={"layout": name})


def _read_json(path: Path, layout: str, check: Callable[[Any], Any]) -> Any:
    try:
        return check(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError("pool.root", f"{path} cannot be read ({error})", f"the layout is {layout}") from error


def _real(value: Any) -> list[list[int]]:
    return [[int(label) for label in right] for right in value]


def _number(file: str) -> int:
    found = re.search(r"(\d+)\.\w+$", file)
    return int(found[1]) if found else -1


def _check_ids(labels: list[int], n_classes: int, source: str) -> None:
    bad = next((label for label in labels if not 0 <= label < n_classes), None)
    if bad is not None:
        raise DataError(
            f"pool: {source} names class {bad}, and ImageNet here has {n_classes}; give the whole class folders"
        )
