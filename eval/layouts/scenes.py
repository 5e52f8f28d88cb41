"""ADE20K and Cityscapes for segmentation, in their published layouts."""

from strata.eval.layouts.files import MapsPool, check_files, choose, images_in, need, open_root
from strata.eval.layouts.voc import ClassMap

ADE20K = "ROOT/ADEChallengeData2016/{images,annotations}/{training,validation}/ADE_*.{jpg,png} and objectInfo150.txt"
CITYSCAPES = "ROOT/{leftImg8bit/SPLIT/CITY/*_leftImg8bit.png, gtFine/SPLIT/CITY/*_gtFine_labelIds.png}"
# labelIds -> trainIds of the 19 classes that count; mcordts/cityscapesScripts#cityscapesscripts/helpers/labels.py
CITY_CLASSES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light", 20: "traffic sign",
    21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip


def ade20k(root: str, split: str) -> MapsPool:
    """ADE20K of the scene parsing challenge: 150 classes; 0 in the maps is "other" and does not count.

    Source: Zhou et al., CVPR 2017.

    Args:
        root: folder that holds ``ADEChallengeData2016``.
        split: "training" or "validation".
    """
    choose(split, ("training", "validation"))
    folder = open_root(root, ADE20K) / "ADEChallengeData2016"
    files = images_in(need(folder / "images" / split, ADE20K), folder)
    maps = [file.replace("images/", "annotations/", 1).rsplit(".", 1)[0] + ".png" for file in files]
    check_files(folder, files, ADE20K)
    check_files(folder, maps, ADE20K)
    info = need(folder / "objectInfo150.txt", ADE20K).read_text().splitlines()
    names = [line.split("\t")[-1].strip() for line in info[1:] if line.strip()]
    decode = ClassMap(len(names), {i + 1: i for i in range(len(names))})
    return MapsPool(f"ade20k-{split}", folder, files, maps, decode, names, about={"layout": "ade20k", "split": split})


def cityscapes(root: str, split: str) -> MapsPool:
    """Cityscapes with fine annotations: the 19 classes of its benchmark; all others do not count.

    Source: Cordts et al., CVPR 2016.

    Args:
        root: folder that holds ``leftImg8bit`` and ``gtFine``.
        split: "train" or "val".
    """
    choose(split, ("train", "val"))
    folder = open_root(root, CITYSCAPES)
    pictures = need(folder / "leftImg8bit" / split, CITYSCAPES)
    cities = sorted(city for city in pictures.iterdir() if city.is_dir())
    files = [file for city in cities for file in images_in(city, folder) if file.endswith("_leftImg8bit.png")]
    maps = [
        file.replace("leftImg8bit/", "gtFine/", 1).replace("_leftImg8bit.png", "_gtFine_labelIds.png") for file in files
    ]
    check_files(folder, files, CITYSCAPES)
    check_files(folder, maps, CITYSCAPES)
    decode = ClassMap(len(CITY_CLASSES), {stored: i for i, stored in enumerate(CITY_CLASSES)})
    names = list(CITY_CLASSES.values())
    return MapsPool(
        f"cityscapes-{split}", folder, files, maps, decode, names, about={"layout": "cityscapes", "split": split}
    )
