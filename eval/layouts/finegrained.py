"""The fine-grained sets of the paper in their published layouts: by torchvision where it has a reader, else by their own lists.

Which 12, their splits and metrics: Chen et al., arXiv:2002.05709, appendix B.8, as the paper (section 4) says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from strata.curation.errors import ConfigError, DataError
from strata.eval.layouts.files import FilesPool, check_files, choose, class_folders, images_in, need, open_root

# Set: attributes of torchvision's reader that hold its files and labels, and what lies where below the root.
READERS = {
    "FGVCAircraft": ("_image_files", "_labels", "ROOT/fgvc-aircraft-2013b/data/{variants.txt, images_variant_SPLIT.txt, images}"),
    "StanfordCars": ("_samples", None, "ROOT/stanford_cars/{devkit/, cars_train/, cars_test/, cars_test_annos_withlabels.mat}"),
    "DTD": ("_image_files", "_labels", "ROOT/dtd/dtd/{images/CLASS/*.jpg, labels/SPLIT1.txt}"),
    "Flowers102": ("_image_files", "_labels", "ROOT/flowers-102/{jpg/image_00001.jpg, imagelabels.mat, setid.mat}"),
    "Food101": ("_image_files", "_labels", "ROOT/food-101/{images/CLASS/*.jpg, meta/SPLIT.json}"),
    "OxfordIIITPet": ("_images", "_labels", "ROOT/oxford-iiit-pet/{images/*.jpg, annotations/SPLIT.txt}"),
}  # fmt: skip
CUB = "ROOT/CUB_200_2011/{images/CLASS/*.jpg, images.txt, image_class_labels.txt, train_test_split.txt, classes.txt}"
SUN = "ROOT/{a/abbey/*.jpg, ..., ClassName.txt, Training_01.txt, Testing_01.txt}"


def torchvision_files(dataset: str, root: str, splits: Sequence[str]) -> FilesPool:
    """One or more splits of a set that torchvision reads as image files; nothing is fetched.

    Args:
        dataset: a class of ``torchvision.datasets``, one of ``READERS``.
        root: folder given to torchvision; it holds the set's own folder.
        splits: as torchvision calls them, e.g. ["train", "val"].

    Raises:
        ConfigError: an unknown set or split, or it is not there in this layout.
    """
    choose(dataset, list(READERS), "pool.dataset")
    files_at, labels_at, layout = READERS[dataset]
    folder = open_root(root, layout)
    files: list[str] = []
    labels: list[int] = []
    names: list[str] = []
    for split in splits:
        data = _open(dataset, folder, split, layout)
        listed: list[Any] = getattr(data, files_at)
        pairs = listed if labels_at is None else list(zip(listed, getattr(data, labels_at), strict=True))
        files += [Path(file).relative_to(folder).as_posix() for file, _ in pairs]
        labels += [int(label) for _, label in pairs]
        found = [str(name) for name in data.classes]
        if names and found != names:
            raise DataError(
                f"pool.splits: {split} of {dataset} has other classes than {splits[0]}; fetch the set again"
            )
        names = found
    if not splits:
        raise ConfigError("pool.splits", "there are none", "give e.g. [train]")
    check_files(folder, files, layout)
    about = {"layout": dataset, "splits": list(splits)}
    return FilesPool(f"{dataset.lower()}-{'+'.join(splits)}", folder, files, labels, names, about=about)


def _open(dataset: str, folder: Path, split: str, layout: str) -> Any:
    from torchvision import datasets

    try:
        return getattr(datasets, dataset)(root=str(folder), split=split, download=False)
    except ValueError as error:
        raise ConfigError(
            "pool.splits", f"{split!r} cannot be ({error})", "use the names that torchvision has"
        ) from error
    except (RuntimeError, OSError, KeyError) as error:
        problem = f"{dataset} ({split}) cannot be opened in {folder} ({' '.join(str(error).split())[:200]})"
        raise ConfigError("pool.root", problem, f"the layout is {layout}") from error


def caltech101(root: str, part: str, per_class: int = 30, seed: int = 0) -> FilesPool:
    """Caltech-101 in its 102 class folders; 30 images of each to fit on, drawn by the seed, and the rest.

    Args:
        root: folder that holds ``101_ObjectCategories``.
        part: "train" or "test".
        per_class: images of each class in "train".
        seed: of the draw.
    """
    import numpy as np

    choose(part, ("train", "test"), "pool.part")
    layout = "ROOT/101_ObjectCategories/CLASS/image_0001.jpg"
    folder = open_root(root, layout) / "101_ObjectCategories"
    names = class_folders(folder, layout)
    rng = np.random.default_rng(seed)
    files, labels = [], []
    for label, name in enumerate(names):
        found = images_in(folder / name, folder)
        order = rng.permutation(len(found))
        chosen = np.sort(order[:per_class] if part == "train" else order[per_class:]).tolist()
        files += [found[i] for i in chosen]
        labels += [label] * len(chosen)
    check_files(folder, files, layout)
    about = {"layout": "caltech101", "part": part, "per_class": per_class, "seed": seed}
    return FilesPool(f"caltech101-{part}", folder, files, labels, names, about=about)


def cub200(root: str, part: str) -> FilesPool:
    """CUB-200-2011 by its own lists. Source: Wah et al., Caltech CNS-TR-2011-001.

    Args:
        root: folder that holds ``CUB_200_2011``.
        part: "train" or "test".
    """
    choose(part, ("train", "test"), "pool.part")
    folder = open_root(root, CUB) / "CUB_200_2011"
    classes, images = _table(folder / "classes.txt", CUB), _table(folder / "images.txt", CUB)
    class_of, in_train = _table(folder / "image_class_labels.txt", CUB), _table(folder / "train_test_split.txt", CUB)
    number = {key: i for i, key in enumerate(classes)}
    wanted = [key for key in images if in_train.get(key) == ("1" if part == "train" else "0")]
    lost = [key for key in wanted if class_of.get(key) not in number]
    if lost:
        raise DataError(f"pool.root: image {lost[0]} of {folder} has no class in classes.txt; fetch the set again")
    files = [f"images/{images[key]}" for key in wanted]
    check_files(folder, files, CUB)
    labels = [number[class_of[key]] for key in wanted]
    return FilesPool(
        f"cub200-{part}", folder, files, labels, list(classes.values()), about={"layout": "cub200", "part": part}
    )


def sun397(root: str, part: str, partition: int = 1) -> FilesPool:
    """SUN397 by one of its ten partitions, each 50 + 50 images a class. Source: Xiao et al., CVPR 2010.

    Args:
        root: folder of the images and lists (``SUN397``).
        part: "train" or "test".
        partition: 1 to 10.
    """
    choose(part, ("train", "test"), "pool.part")
    folder = open_root(root, SUN)
    names = [line.strip("/") for line in _lines(folder / "ClassName.txt", SUN)]
    number = {name: i for i, name in enumerate(names)}
    listed = f"{'Training' if part == 'train' else 'Testing'}_{partition:02d}.txt"
    files = [line.strip("/") for line in _lines(folder / listed, SUN)]
    lost = [file for file in files if file.rpartition("/")[0] not in number]
    if lost:
        raise DataError(
            f"pool.root: {lost[0]} of {folder / listed} is of no class in ClassName.txt; fetch the lists again"
        )
    check_files(folder, files, SUN)
    labels = [number[file.rpartition("/")[0]] for file in files]
    about = {"layout": "sun397", "part": part, "partition": partition}
    return FilesPool(f"sun397-{part}", folder, files, labels, names, about=about)


def _lines(path: Path, layout: str) -> list[str]:
    return [line.strip() for line in need(path, layout).read_text().splitlines() if line.strip()]


def _table(path: Path, layout: str) -> dict[str, str]:
    """Lines of a number and a value."""
    return dict(line.split(maxsplit=1) for line in _lines(path, layout) if " " in line)  # type: ignore[misc]
