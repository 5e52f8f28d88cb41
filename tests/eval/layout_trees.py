"""Tiny trees of files in the published layouts, for the tests of their loaders."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

WNIDS = ["n01440764", "n01443537", "n01484850", "n01491361"]


def picture(path: Path, value: int = 0, size=(12, 10)) -> None:
    """An image of one color that tells which one it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value % 256, 100, 200)).save(path, format="PNG" if path.suffix == ".png" else "JPEG")


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def imagenet(root: Path) -> str:
    for c, wnid in enumerate(WNIDS):
        for i in range(2):
            picture(root / "train" / wnid / f"{wnid}_{i}.JPEG", c)
    for number, c in enumerate((2, 0, 3, 1, 0), start=1):
        picture(root / "val" / WNIDS[c] / f"ILSVRC2012_val_{number:08d}.JPEG", 10 + number)
    text(root / "real.json", json.dumps([[2, 1], [], [3], [0], [0]]))
    return str(root)


def imagenet_v2(root: Path) -> str:
    for c in range(len(WNIDS)):
        picture(root / str(c) / "a.jpeg", c)
    return str(root)


def imagenet_subset(root: Path, classes=(1, 3)) -> str:
    for c in classes:
        picture(root / WNIDS[c] / "b.jpg", c)
    return str(root)


def objectnet(root: Path) -> str:
    for folder in ("alarm_clock", "bath_towel", "air_freshener"):
        picture(root / "images" / folder / "x.png", 7, size=(20, 16))
    maps = root / "mappings"
    labels = {"alarm_clock": "Alarm clock", "bath_towel": "Bath towel", "air_freshener": "Air freshener"}
    text(maps / "folder_to_objectnet_label.json", json.dumps(labels))
    text(
        maps / "objectnet_to_imagenet_1k.json",
        json.dumps({"Alarm clock": "analog clock; digital clock", "Bath towel": "towel"}),
    )
    text(maps / "pytorch_to_imagenet_2012_id.json", json.dumps({"0": 2, "1": 0, "2": 3, "3": 1}))
    text(maps / "imagenet_to_label_2012_v2", "digital clock\ntowel\nanalog clock\nshark\n")
    return str(root)


def inaturalist(root: Path) -> str:
    for i in range(3):
        picture(root / "train_val2018" / "Aves" / str(i) / f"{i}.jpg", i)
    read = {
        "images": [{"id": 10 + i, "file_name": f"train_val2018/Aves/{i}/{i}.jpg"} for i in range(3)],
        "annotations": [{"image_id": 10 + i, "category_id": [7, 3, 7][i]} for i in range(3)],
        "categories": [{"id": 7, "name": "owl"}, {"id": 3, "name": "crow"}, {"id": 5, "name": "tit"}],
    }
    text(root / "train2018.json", json.dumps(read))
    return str(root)


def aircraft(root: Path) -> str:
    data = root / "fgvc-aircraft-2013b" / "data"
    text(data / "variants.txt", "707-320\nA300B4\n")
    for split, names in (("trainval", ["1", "2", "3"]), ("test", ["4"])):
        text(
            data / f"images_variant_{split}.txt", "".join(f"{n} {'A300B4' if n == '2' else '707-320'}\n" for n in names)
        )
        for n in names:
            picture(data / "images" / f"{n}.jpg", int(n))
    return str(root)


def cars(root: Path) -> str:
    from scipy.io import savemat

    base = root / "stanford_cars"
    kind = [("bbox_x1", "O"), ("class", "O"), ("fname", "O")]
    for path, names, classes in (
        (base / "devkit" / "cars_train_annos.mat", ["00001.jpg", "00002.jpg"], [2, 1]),
        (base / "cars_test_annos_withlabels.mat", ["00001.jpg", "00002.jpg"], [2, 1]),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"annotations": np.array([(0, c, n) for c, n in zip(classes, names)], dtype=kind)})
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi", "BMW"], dtype=object)})
    for folder, n in (("cars_train", 2), ("cars_test", 2)):
        for i in range(1, n + 1):
            picture(base / folder / f"{i:05d}.jpg", i)
    return str(root)


DTD = {split: [f"banded/{split}.jpg", f"dotted/{split}.jpg"] for split in ("train", "val", "test")}


def dtd(root: Path) -> str:
    base = root / "dtd" / "dtd"
    for split, lines in DTD.items():
        text(base / "labels" / f"{split}1.txt", "".join(f"{line}\n" for line in lines))
        for line in lines:
            picture(base / "images" / line, len(line))
    return str(root)


def flowers(root: Path) -> str:
    from scipy.io import savemat

    base = root / "flowers-102"
    base.mkdir(parents=True, exist_ok=True)
    savemat(base / "imagelabels.mat", {"labels": np.array([[2, 1, 3, 1, 2, 3]])})
    savemat(base / "setid.mat", {"trnid": np.array([[1, 3]]), "valid": np.array([[2, 5]]), "tstid": np.array([[4, 6]])})
    for i in range(1, 7):
        picture(base / "jpg" / f"image_{i:05d}.jpg", i)
    return str(root)


def food(root: Path) -> str:
    base = root / "food-101"
    for split, listed in (
        ("train", {"pho": ["pho/1"], "pizza": ["pizza/2", "pizza/3"]}),
        ("test", {"pho": ["pho/4"], "pizza": []}),
    ):
        text(base / "meta" / f"{split}.json", json.dumps(listed))
        for name in (name for names in listed.values() for name in names):
            picture(base / "images" / f"{name}.jpg", 5)
    return str(root)


def pets(root: Path) -> str:
    base = root / "oxford-iiit-pet"
    lines = {"trainval": ["Abyssinian_1 1 1 1", "beagle_2 2 2 1"], "test": ["beagle_3 2 2 1", "Abyssinian_9 1 1 1"]}
    for split, found in lines.items():
        text(base / "annotations" / f"{split}.txt", "".join(f"{line}\n" for line in found))
        for line in found:
            picture(base / "images" / f"{line.split()[0]}.jpg", 3)
    return str(root)


def caltech(root: Path) -> str:
    for name, n in (("BACKGROUND_Google", 4), ("accordion", 5)):
        for i in range(n):
            picture(root / "101_ObjectCategories" / name / f"image_{i:04d}.jpg", i)
    return str(root)


def cub(root: Path) -> str:
    base = root / "CUB_200_2011"
    text(base / "classes.txt", "1 001.Albatross\n2 002.Auklet\n")
    text(base / "images.txt", "1 001.Albatross/a.jpg\n2 002.Auklet/b.jpg\n3 002.Auklet/c.jpg\n")
    text(base / "image_class_labels.txt", "1 1\n2 2\n3 2\n")
    text(base / "train_test_split.txt", "1 1\n2 0\n3 1\n")
    for name in ("001.Albatross/a.jpg", "002.Auklet/b.jpg", "002.Auklet/c.jpg"):
        picture(base / "images" / name, 9)
    return str(root)


def sun(root: Path) -> str:
    text(root / "ClassName.txt", "/a/abbey\n/b/bakery/shop\n")
    text(root / "Training_01.txt", "/a/abbey/x.jpg\n/b/bakery/shop/y.jpg\n")
    text(root / "Testing_01.txt", "/b/bakery/shop/z.jpg\n")
    for name in ("a/abbey/x.jpg", "b/bakery/shop/y.jpg", "b/bakery/shop/z.jpg"):
        picture(root / name, 4)
    return str(root)


def voc(root: Path) -> str:
    from strata.eval.layouts.voc import CLASSES

    base = root / "VOCdevkit" / "VOC2007"
    flags = {
        "aeroplane": {"000001": 1, "000002": -1},
        "dog": {"000001": 1, "000002": 1},
        "cat": {"000001": 0, "000002": -1},
    }
    for name in CLASSES:
        found = flags.get(name, {"000001": -1, "000002": -1})
        text(base / "ImageSets" / "Main" / f"{name}_test.txt", "".join(f"{i} {flag:2d}\n" for i, flag in found.items()))
    for i in ("000001", "000002"):
        picture(base / "JPEGImages" / f"{i}.jpg", 2)
    base = root / "VOCdevkit" / "VOC2012"
    text(base / "ImageSets" / "Segmentation" / "val.txt", "2007_1\n")
    picture(base / "JPEGImages" / "2007_1.jpg", 1, size=(4, 3))
    mask = Image.fromarray(np.array([[0, 15, 15, 255], [0, 1, 20, 255], [0, 0, 0, 0]], np.uint8), mode="P")
    mask.putpalette(list(range(256)) * 3)
    (base / "SegmentationClass").mkdir()
    mask.save(base / "SegmentationClass" / "2007_1.png")
    return str(root)


def ade(root: Path) -> str:
    base = root / "ADEChallengeData2016"
    text(
        base / "objectInfo150.txt",
        "Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t1\t1\twall\n2\t0.1\t1\t1\tbuilding, edifice\n",
    )
    picture(base / "images" / "validation" / "ADE_val_00000001.jpg", 1, size=(3, 2))
    png(base / "annotations" / "validation" / "ADE_val_00000001.png", np.array([[0, 1, 2], [2, 2, 1]], np.uint8))
    return str(root)


def city(root: Path) -> str:
    picture(root / "leftImg8bit" / "val" / "lindau" / "lindau_000000_leftImg8bit.png", 1, size=(3, 2))
    png(
        root / "gtFine" / "val" / "lindau" / "lindau_000000_gtFine_labelIds.png",
        np.array([[7, 8, 0], [33, 26, 4]], np.uint8),
    )
    return str(root)


def depth(root: Path) -> str:
    picture(root / "kitchen" / "rgb_1.jpg", 1, size=(64, 48))
    stored = np.full((48, 64), 2500, np.uint16)
    stored[10, 10], stored[20, 20], stored[30, 30] = 0, 9000, 12000
    png(root / "kitchen" / "sync_depth_1.png", stored)
    text(
        root / "nyu_test.txt", "kitchen/rgb_1.jpg kitchen/sync_depth_1.png 518.8579\n/kitchen/rgb_2.jpg None 518.8579\n"
    )
    return str(root)


def landmarks(root: Path) -> str:
    for i, name in enumerate(("a", "b", "c")):
        picture(root / "jpg" / f"{name}.jpg", i, size=(40, 30))
    known = [{"bbx": [2.4, 3.0, 22.6, 13.2], "easy": [1], "hard": [2], "junk": [0]}]
    text(root / "gnd_roxford5k.json", json.dumps({"imlist": ["a", "b", "c"], "qimlist": ["a"], "gnd": known}))
    return str(root)


def dollar(root: Path) -> str:
    names = ["id", "country.name", "country.id", "region.id", "type", "imageRelPath", "topics", "place", "income",
             "imagenet_synonyms", "imagenet_sysnet_id"]  # fmt: skip
    rows = {
        "train": [["1", "Chad", "td", "af", "image", "assets/1.jpg", "['cups']", "home", "90.5", "['cup']", "[968]"]],
        "test": [
            ["2", "Peru", "pe", "am", "image", "assets/2.jpg", "['beds', 'cups']", "home", "1200", "['bed']", "[564]"],
            ["3", "Sweden", "se", "eu", "image", "assets/3.jpg", "['cups']", "home", "4000.0", "['cup']", "[968]"],
        ],
    }
    for split, lines in rows.items():
        root.mkdir(parents=True, exist_ok=True)
        with open(root / f"images_v2_imagenet_{split}.csv", "w", newline="") as stream:
            csv.writer(stream).writerows([names, *lines])
        for line in lines:
            picture(root / line[5], int(line[0]))
    return str(root)


def globe(root: Path) -> str:
    rgb = np.zeros((64, 128, 3), np.uint8)
    rgb[:, 64:] = 200
    height = np.full((64, 128), -32768, np.int32)
    height[:, 64:], height[0, 64:] = 300, 100
    root.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(root / "rgb.tif")
    Image.fromarray(height).save(root / "height.tif")
    text(root / "tiles.csv", "row,col,size,split,land_fraction\n0,64,64,train,1.0\n0,32,64,test_id,0.5\n")
    return str(root)
