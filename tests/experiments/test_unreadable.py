"""Unreadable items with on_error=skip: rows of every stage are those of the readable pool, and ids stay right."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from flow import arguments
from PIL import Image

from strata.curation import EmbeddingStore, Hierarchy
from strata.curation.artifact import read_manifest
from strata.curation.pools.folder import ImageFolderPool
from strata.experiments.cli import dispatch
from strata.experiments.stages import pretrain

N, BAD = 60, (0, 1, 7, 20, 21, 22, 40, 59)  # first, last and neighbors


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 60 grey images, as bright as their number says, of which eight are corrupt in different ways."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(N):
        file = folder / f"{'ab'[i % 2]}" / f"{i:03d}.jpg"
        file.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(i).integers(-1, 2, (16, 16, 3))
        Image.fromarray(np.clip(noise + 4 * i, 0, 255).astype(np.uint8)).save(file, quality=95)
    files = sorted(folder.rglob("*.jpg"), key=lambda file: file.relative_to(folder).as_posix())
    for row in BAD:
        data = files[row].read_bytes()
        files[row].write_bytes([b"", b"not an image", data[: len(data) // 2]][row % 3])
    return folder


def settings(images: Path, runs: Path) -> list[str]:
    return [
        "pool=folder", f"pool.path={images}", "on_error=skip", "seeds=[0]", "size=30", f"paths.runs={runs}",
        "wandb.mode=disabled", "~arms.raw", "~arms.hand", "~arms.flat", "encoder.n_components=4",
        "hierarchy.n_clusters=[24,12,4]", "ssl.steps=2", "ssl.batch_size=8", "~protocols.linear",
    ]  # fmt: skip


trained: list[tuple[Path, set[str]]] = []  # of every training: its subset, and the ids of what it decoded


@pytest.fixture(scope="module")
def runs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment in this process, with an eye on what is decoded for training."""
    runs = tmp_path_factory.mktemp("runs")
    run, read = pretrain.run, ImageFolderPool.__getitem__
    with pytest.MonkeyPatch.context() as patch:

        def watched_run(task, *rest):
            trained.append((task.inputs["subset"], set()))
            patch.setattr(ImageFolderPool, "__getitem__", watched_read)
            run(task, *rest)
            patch.setattr(ImageFolderPool, "__getitem__", read)

        def watched_read(pool, row):
            trained[-1][1].add(pool.ids[row])
            return read(pool, row)

        patch.setattr(pretrain, "run", watched_run)
        assert dispatch(arguments("run", *settings(images, runs))) == 0
    return runs / "store"


def brightness(images: Path, item_id: str) -> int:
    """What the item's file was made of: 4 x its number."""
    return 4 * int(Path(item_id).stem)


def good_ids(images: Path) -> list[str]:
    files = sorted(file.relative_to(images).as_posix() for file in images.rglob("*.jpg"))
    return [name for row, name in enumerate(files) if row not in BAD]


def test_the_inventory_names_what_is_corrupt(images: Path, runs: Path):
    (pool,) = (runs / "pool").glob("*/unreadable.json")
    assert [item["row"] for item in json.loads(pool.read_text())] == list(BAD)


def test_every_stage_numbers_the_readable_items(images: Path, runs: Path):
    good = good_ids(images)
    (embeddings,) = (path.parent for path in (runs / "embed").glob("*/manifest.json"))
    assert list(EmbeddingStore.open(embeddings).ids) == good
    (cluster,) = (path.parent for path in (runs / "cluster").glob("*/manifest.json"))
    assert Hierarchy.load(cluster).n == len(good)


def test_rows_of_a_subset_are_the_files_of_their_ids(images: Path, runs: Path):
    good, seen = good_ids(images), set()
    for manifest in (runs / "sample").glob("*/manifest.json"):
        config = read_manifest(manifest.parent, "subset")["config"]
        table = pq.read_table(manifest.parent / "subset.parquet").to_pydict()
        assert len(table["row"]) == 30
        assert table["id"] == [good[row] for row in table["row"]]
        assert table["label"] == [int(item.startswith("b")) for item in table["id"]]
        assert np.load(manifest.parent / "indices.npy").tolist() == table["row"]
        name = config["sampler"]["_target_"].rsplit(".", 1)[-1]
        seen.add(name)
        if name == "HierarchicalRows":
            check_clusters(images, runs, table)
    assert seen == {"RandomRows", "HierarchicalRows"}


def check_clusters(images: Path, runs: Path, table: dict) -> None:
    """The clusters of the subset are those of the pictures: brightness alone tells these images apart."""
    (path,) = (path.parent for path in (runs / "cluster").glob("*/manifest.json"))
    h = Hierarchy.load(path)
    assert table["cluster_l1"] == h.labels(1)[table["row"]].tolist()
    by_cluster: dict[int, list[int]] = {}
    for item, cluster in zip(table["id"], table["cluster_l1"]):
        by_cluster.setdefault(cluster, []).append(brightness(images, item))
    spans = sorted((min(values), max(values)) for values in by_cluster.values())
    assert all(left[1] < right[0] for left, right in zip(spans, spans[1:])), "clusters mix brightness: rows are shifted"


def test_pretrain_reads_the_files_of_the_subset(runs: Path):
    assert len(trained) == 2
    for subset, read in trained:
        assert read == set(pq.read_table(subset / "subset.parquet")["id"].to_pylist())


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("size=55", ["size: 55 of 52", "52 items of the pool can be read", "at most 52", "stage sample"]),
        ("hierarchy.n_clusters=[55,12,4]", ["hierarchy.n_clusters", "55", "52", "stage cluster"]),
    ],
)
def test_more_than_can_be_read_is_refused_in_one_line(
    images: Path, runs: Path, capfd: pytest.CaptureFixture[str], override: str, expected: list[str]
):
    """55 fits the 60 items that planning sees, but not the 52 that can be read."""
    kept = [item for item in settings(images, runs.parent) if item.split("=")[0] != override.split("=")[0]]
    assert dispatch(arguments("run", *kept, override)) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    for word in expected:
        assert word in lines[0], lines[0]
