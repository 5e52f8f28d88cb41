"""Loaders of published file layouts, each on a tiny tree in that layout."""

import json
import pickle

import layout_trees as trees
import numpy as np
import pytest
import torchvision

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import Pool, UnreadableItem
from strata.eval.benchmarks import Benchmark, DenseBenchmark, RetrievalBenchmark
from strata.eval.layouts import (
    depth_lists,
    dollar_street,
    finegrained,
    globe,
    imagenet,
    inaturalist,
    landmarks,
    scenes,
    voc,
)


def tells(pool, row):
    """The red value of an image's corner: which picture it is (JPEG moves it a little)."""
    return np.asarray(pool[row])[0, 0, 0]


def check(pool, n):
    assert isinstance(pool, Pool) and len(pool) == n == len(set(pool.ids))
    again = pickle.loads(pickle.dumps(pool))
    assert again.fingerprint == pool.fingerprint
    for row in range(n):
        assert pool[row].mode == "RGB"
    json.dumps(pool.describe())
    if pool.labels is not None:
        assert pool.labels.min() >= 0 and pool.labels.max() < len(pool.label_names)


def test_imagenet_and_its_shifts(tmp_path):
    root = trees.imagenet(tmp_path / "in")
    train, val = imagenet.imagenet(root, "train"), imagenet.imagenet(root, "val")
    check(train, 8)
    check(val, 5)
    assert train.label_names == trees.WNIDS and train.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert val.labels.tolist() == [0, 0, 1, 2, 3]
    real = imagenet.imagenet_real(root, f"{root}/real.json")
    check(real, 4)  # the second image has no label
    assert dict(zip(real.ids, real.extra["accepted"])) == {
        f"{trees.WNIDS[2]}/ILSVRC2012_val_00000001.JPEG": [2, 1],
        f"{trees.WNIDS[3]}/ILSVRC2012_val_00000003.JPEG": [3],
        f"{trees.WNIDS[1]}/ILSVRC2012_val_00000004.JPEG": [0],  # ReaL may disagree with the folder
        f"{trees.WNIDS[0]}/ILSVRC2012_val_00000005.JPEG": [0],
    }
    v2 = imagenet.imagenet_v2(trees.imagenet_v2(tmp_path / "v2"), root)
    check(v2, 4)
    assert v2.labels.tolist() == [0, 1, 2, 3] and v2.candidates is None
    subset = imagenet.imagenet_subset(trees.imagenet_subset(tmp_path / "a"), root, "imagenet_a")
    check(subset, 2)
    assert subset.labels.tolist() == [1, 3] == subset.candidates
    objects = imagenet.objectnet(trees.objectnet(tmp_path / "on"), root)
    check(objects, 2)  # the air freshener is no class of ImageNet
    # "analog clock" is line 2 of the list, which is class 0; "digital clock" line 0, class 1; "towel" line 1, class 3
    assert objects.extra["accepted"] == [[0, 1], [3]] and objects.labels.tolist() == [0, 3]
    assert objects.candidates == [0, 1, 3]
    assert objects[0].size == (16, 12)  # the border is gone
    shifts = {"v2": v2, "real": real, "a": subset, "objectnet": objects}
    benchmark = Benchmark("imagenet_shift", train, val, shifts=shifts)
    assert list(benchmark.splits) == ["train", "test", "v2", "real", "a", "objectnet"]


def test_class_maps_that_do_not_fit(tmp_path):
    root = trees.imagenet(tmp_path / "in")
    (tmp_path / "a" / "n99999999").mkdir(parents=True)
    with pytest.raises(DataError, match=r"class 'n99999999' .* is no class of ImageNet"):
        imagenet.imagenet_subset(str(tmp_path / "a"), root, "a")
    (tmp_path / "in" / "real.json").write_text(json.dumps([[2], [], [9], [0], [0]]))
    with pytest.raises(DataError, match="names class 9, and ImageNet here has 4"):
        imagenet.imagenet_real(root, f"{root}/real.json")
    (tmp_path / "in" / "real.json").write_text(json.dumps([[2], []]))
    with pytest.raises(DataError, match="labels of 2 images, and .* 5 others"):
        imagenet.imagenet_real(root, f"{root}/real.json")
    trees.objectnet(tmp_path / "on")
    (tmp_path / "on" / "mappings" / "objectnet_to_imagenet_1k.json").write_text(json.dumps({"Bath towel": "rug"}))
    with pytest.raises(DataError, match="no class 'rug'"):
        imagenet.objectnet(str(tmp_path / "on"), root)
    train, val = imagenet.imagenet(root, "train"), imagenet.imagenet(root, "val")
    val.candidates = [0, 1]
    with pytest.raises(DataError, match=r"benchmark\.test: class 2 is a label, but may not be predicted"):
        Benchmark("x", train, val)
    val.candidates, val.extra = None, {"accepted": [[0], [4], [1], [2], [3]]}
    with pytest.raises(DataError, match=r"benchmark\.test: row 1 accepts the classes \[4\] of 4"):
        Benchmark("x", train, val)


def test_inaturalist(tmp_path):
    pool = inaturalist.inaturalist(trees.inaturalist(tmp_path), "train2018.json")
    check(pool, 3)
    assert pool.label_names == ["crow", "tit", "owl"] and pool.labels.tolist() == [2, 0, 2]
    read = json.loads((tmp_path / "train2018.json").read_text())
    (tmp_path / "train2018.json").write_text(json.dumps(read | {"annotations": read["annotations"][:2]}))
    with pytest.raises(DataError, match="1 images of .* have no category"):
        inaturalist.inaturalist(str(tmp_path), "train2018.json")
    (tmp_path / "train2018.json").write_text("{}")
    with pytest.raises(ConfigError, match="the layout is ROOT/train_val2018"):
        inaturalist.inaturalist(str(tmp_path), "train2018.json")


@pytest.mark.parametrize(
    ("dataset", "tree", "splits", "n", "labels"),
    [
        ("FGVCAircraft", trees.aircraft, ["trainval"], 3, [0, 1, 0]),
        ("FGVCAircraft", trees.aircraft, ["test"], 1, [0]),
        ("StanfordCars", trees.cars, ["train"], 2, [1, 0]),
        ("StanfordCars", trees.cars, ["test"], 2, [1, 0]),
        ("DTD", trees.dtd, ["train", "val"], 4, [0, 1, 0, 1]),
        ("DTD", trees.dtd, ["test"], 2, [0, 1]),
        ("Flowers102", trees.flowers, ["train", "val"], 4, [1, 2, 0, 1]),
        ("Food101", trees.food, ["train"], 3, [0, 1, 1]),
        ("OxfordIIITPet", trees.pets, ["trainval"], 2, [0, 1]),
        ("OxfordIIITPet", trees.pets, ["test"], 2, [1, 0]),
    ],
)
def test_sets_that_torchvision_reads(tmp_path, monkeypatch, dataset, tree, splits, n, labels):
    # torchvision compares the MD5 of the published files
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_check_integrity", lambda self: self._images_folder.is_dir())
    pool = finegrained.torchvision_files(dataset, tree(tmp_path), splits)
    check(pool, n)
    assert pool.labels.tolist() == labels
    with pytest.raises(ConfigError, match=r"pool\.splits"):
        finegrained.torchvision_files(dataset, str(tmp_path), ["nope"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"pool\.root: .*the layout is ROOT/"):
        finegrained.torchvision_files(dataset, str(tmp_path / "empty"), splits)


def test_caltech_cub_and_sun(tmp_path):
    root = trees.caltech(tmp_path / "caltech")
    train, test = (finegrained.caltech101(root, part, per_class=3) for part in ("train", "test"))
    check(train, 6)
    check(test, 3)
    assert not set(train.ids) & set(test.ids) and len(train.label_names) == 2
    assert train.ids == finegrained.caltech101(root, "train", per_class=3).ids
    assert train.ids != finegrained.caltech101(root, "train", per_class=3, seed=1).ids
    root = trees.cub(tmp_path / "cub")
    train, test = (finegrained.cub200(root, part) for part in ("train", "test"))
    assert train.labels.tolist() == [0, 1] and test.labels.tolist() == [1]
    check(Benchmark("cub200", train, test).test, 1)
    root = trees.sun(tmp_path / "sun")
    train, test = (finegrained.sun397(root, part) for part in ("train", "test"))
    assert (
        train.labels.tolist() == [0, 1]
        and test.labels.tolist() == [1]
        and test.label_names == ["a/abbey", "b/bakery/shop"]
    )
    check(test, 1)
    for build in (finegrained.cub200, finegrained.sun397, finegrained.caltech101):
        with pytest.raises(ConfigError, match="the layout is ROOT/"):
            build(str(tmp_path), "train")
        with pytest.raises(ConfigError, match=r"pool\.part"):
            build(str(tmp_path), "val")


def test_voc(tmp_path):
    root = trees.voc(tmp_path)
    pool = voc.voc2007(root, "test")
    check(pool, 2)
    assert pool.extra["positive"] == [[0, 11], [11]] and pool.extra["difficult"] == [[7], []]
    assert Benchmark("voc2007", pool, pool, task="multilabel").task == "multilabel"
    masks = voc.voc2012_segmentation(root, "val")
    check(masks, 1)
    assert masks.target(0).tolist() == [[0, 15, 15, 255], [0, 1, 20, 255], [0, 0, 0, 0]]
    assert len(masks.label_names) == 21 and DenseBenchmark("voc2012", masks, masks, "segmentation").metric == "miou"
    trees.png(tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_1.png", np.full((3, 4), 21, np.uint8))
    with pytest.raises(UnreadableItem, match="class 21 in a map of 21 classes"):
        voc.voc2012_segmentation(root, "val").target(0)
    with pytest.raises(ConfigError, match="the layout is ROOT/VOCdevkit/VOC2012"):
        voc.voc2012_segmentation(root, "train")


def test_ade20k_and_cityscapes(tmp_path):
    pool = scenes.ade20k(trees.ade(tmp_path / "ade"), "validation")
    check(pool, 1)
    assert pool.label_names == ["wall", "building, edifice"]
    assert pool.target(0).tolist() == [[255, 0, 1], [1, 1, 0]]
    streets = scenes.cityscapes(trees.city(tmp_path / "city"), "val")
    check(streets, 1)
    assert streets.target(0).tolist() == [[0, 1, 255], [18, 13, 255]] and len(streets.label_names) == 19
    for build, split in ((scenes.ade20k, "training"), (scenes.cityscapes, "train")):
        with pytest.raises(ConfigError, match="the layout is ROOT/"):
            build(str(tmp_path), split)


def test_depth_lists(tmp_path):
    pool = depth_lists.depth_pairs("nyu", trees.depth(tmp_path), "nyu_test.txt", 1000, 0.001, 10)
    check(pool, 1)  # the line without a depth map is left out
    found = pool.target(0)
    assert found.shape == (48, 64) and found[0, 0] == np.float32(2.5) and found[20, 20] == 9
    assert np.isnan(found[10, 10]) and np.isnan(found[30, 30]) and np.isnan(found).sum() == 2  # no measurement; too far
    cut = depth_lists.depth_pairs("nyu", str(tmp_path), "nyu_test.txt", 1000, 0.001, 10, crop="eigen").target(0)
    assert np.isfinite(cut[5:46, 5:59]).any() and np.isnan(cut[:4]).all() and np.isnan(cut[:, :4]).all()
    assert pool.task_info == {"min": 0.001, "max": 10, "unit": "m"}
    assert DenseBenchmark("nyu", pool, pool, "depth").metric == "rmse"
    with pytest.raises(ConfigError, match="the layout is ROOT/LIST"):
        depth_lists.depth_pairs("nyu", str(tmp_path), "nyu_train.txt", 1000, 0.001, 10)
    with pytest.raises(ConfigError, match=r"pool\.crop"):
        depth_lists.depth_pairs("nyu", str(tmp_path), "nyu_test.txt", 1000, 0.001, 10, crop="half")
    with pytest.raises(ConfigError, match=r"pool\.max_depth"):
        depth_lists.depth_pairs("nyu", str(tmp_path), "nyu_test.txt", 1000, 3, 2)


def test_crops_by_hand():
    nyu = depth_lists.eigen_crop(480, 640)
    assert nyu[45, 41] and nyu[470, 600] and not nyu[44, 41] and not nyu[471, 600] and not nyu[45, 40]
    kitti = depth_lists.garg_crop(375, 1242)
    assert kitti.sum() == (371 - 153) * (1197 - 44) and kitti[153, 44] and not kitti[152, 44]


def test_landmarks(tmp_path):
    queries, database = landmarks.revisited(trees.landmarks(tmp_path), "roxford5k")
    check(queries, 1)
    check(database, 3)
    assert queries[0].size == (21, 10) and database[0].size == (40, 30)
    assert queries.extra == {"easy": [[1]], "hard": [[2]], "junk": [[0]]}
    assert RetrievalBenchmark("roxford5k", (queries, database)).metric == "map_medium"
    (tmp_path / "gnd_rparis6k.pkl").write_bytes(b"never read")
    with pytest.raises(ConfigError, match=r"gnd_rparis6k\.json is not there; .*pickle.*convert it once"):
        landmarks.revisited(str(tmp_path), "rparis6k")
    truth = json.loads((tmp_path / "gnd_roxford5k.json").read_text())
    truth["gnd"][0]["hard"] = [3]
    (tmp_path / "gnd_roxford5k.json").write_text(json.dumps(truth))
    with pytest.raises(DataError, match="imlist has 3"):
        landmarks.revisited(str(tmp_path), "roxford5k")


def test_dollar_street(tmp_path):
    root = trees.dollar(tmp_path)
    train, test = dollar_street.dollar_street(root, "train"), dollar_street.dollar_street(root, "test")
    check(train, 1)
    check(test, 2)
    assert train.label_names == test.label_names == ["beds", "cups"]
    assert train.labels.tolist() == [1] and test.labels.tolist() == [0, 1]
    assert test.extra == {"group.income": ["medium", "high"], "group.region": ["the americas", "europe"]}
    assert train.extra["group.income"] == ["low"]
    path = tmp_path / "images_v2_imagenet_test.csv"
    path.write_text(path.read_text().replace("4000.0", "much"))
    with pytest.raises(DataError, match="income 'much'"):
        dollar_street.dollar_street(root, "test")
    path.write_text(path.read_text().replace("topics", "subjects"))
    with pytest.raises(ConfigError, match="no column 'topics'; the layout is ROOT"):
        dollar_street.dollar_street(root, "test")


def test_globe(tmp_path):
    root = trees.globe(tmp_path)
    heights = globe.GlobePool(root, "test_id")
    check(heights, 1)
    assert (
        np.isnan(heights.target(0)[:, :32]).all()
        and heights.target(0)[1, 40] == 300
        and heights.target(0)[0, 40] == 100
    )
    assert np.asarray(heights[0])[3, 31].tolist() == [0, 0, 0] and np.asarray(heights[0])[3, 32].tolist() == [200] * 3
    bands = globe.GlobePool(root, "train", bands=[200, 500])
    assert bands.label_names == ["sea", "below 200 m", "200-500 m", "above 500 m"]
    assert bands.target(0)[0, 0] == 1 and bands.target(0)[5, 5] == 2
    assert heights.fingerprint != globe.GlobePool(root, "test_id", bands=[200]).fingerprint
    blocks = globe.GlobePool(root, "train", block=90)  # of a map 128 px wide: 32 px a block
    assert (
        blocks.extra == {"block": ["1-3"]}
        and heights.extra == {}
        and blocks.fingerprint != globe.GlobePool(root, "train").fingerprint
    )
    with pytest.raises(ConfigError, match=r"pool\.block"):
        globe.GlobePool(root, "train", block=0)
    with pytest.raises(ConfigError, match="lists no tile of 'test_ood'"):
        globe.GlobePool(root, "test_ood")
    with pytest.raises(ConfigError, match=r"pool\.bands"):
        globe.GlobePool(root, "train", bands=[500, 200])
    with pytest.raises(ConfigError, match=r"benchmark\.train: the maps of .* hold values"):
        DenseBenchmark("globe", heights, heights, "segmentation")


def test_missing_files_are_told_by_row(tmp_path):
    pool = imagenet.imagenet(trees.imagenet(tmp_path), "train")
    (tmp_path / "train" / pool.ids[3]).unlink()
    with pytest.raises(UnreadableItem, match="row 3"):
        pool[3]
    with pytest.raises(IndexError):
        pool[8]
