"""`strata curate data=PATH size=N out=DIR` for every kind of data, and nothing else needed."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from flow import arguments
from PIL import Image

from strata.curation.artifact import read_manifest
from strata.experiments.cli import dispatch

N = 120


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same 120 items, three quarters of them of one kind, as images, tars, texts and vectors."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    X = rng.normal(size=(N, 8)) + 10 * (np.arange(N) % 4 == 0)[:, None]
    np.save(root / "emb.npy", X.astype(np.float32))
    words = ["sea wave tide salt ship harbor", "loop array null type pointer string"]
    lines = []
    (root / "images").mkdir()
    with tarfile.open(root / "shard-0.tar", "w") as tar:
        for i in range(N):
            few = i % 4 == 0
            pixels = np.clip(rng.normal(200 if few else 60, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            (root / "images" / f"{i:03d}.png").write_bytes(stream.getvalue())
            info = tarfile.TarInfo(f"{i:03d}.png")
            info.size = len(stream.getvalue())
            tar.addfile(info, io.BytesIO(stream.getvalue()))
            text = " ".join(rng.choice(words[few].split(), 12))
            lines.append(json.dumps({"text": text, "id": f"t{i:03d}", "label": "few" if few else "many"}))
    (root / "texts.jsonl").write_text("\n".join(lines))
    (root.parent / "no_text.jsonl").write_text('{"foo": 1}\n' * 9)
    return root


def curate(data: Path, out: Path, *overrides: str) -> int:
    return dispatch(
        ["curate", f"out={out}", f"paths.runs={data}/runs", "runner.workers=0", "wandb.mode=disabled", *overrides]
    )


@pytest.mark.parametrize(
    ("path", "copy", "first"),
    [
        ("images", "symlinks", "000.png"),
        ("shard-*.tar", "folder", "000"),
        ("texts.jsonl", "jsonl", "t000"),
        ("emb.npy", "npy", "0"),
    ],
)
def test_nothing_else_is_needed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], path, copy, first):
    assert curate(data, tmp_path / "out", f"data={data}/{path}", "size=40", f"copy={copy}") == 0, capsys.readouterr()
    table = pq.read_table(tmp_path / "out" / "subset.parquet").to_pydict()
    assert len(table["row"]) == 40 and max(table["row"]) < N and "cluster_l1" in table
    ids = [f"{row:03d}" if path != "emb.npy" else str(row) for row in table["row"]]
    prefix, ending = ("t" if path == "texts.jsonl" else ""), (".png" if path == "images" else "")
    assert table["id"] == [f"{prefix}{item}{ending}" for item in ids]
    manifest = read_manifest(tmp_path / "out", "subset")
    assert manifest["n"] == 40 and manifest["pool_size"] == N
    assert table["id"][0] in (tmp_path / "out" / "atlas.html").read_text(encoding="utf-8")
    files = sorted(file.name for file in (tmp_path / "out" / "data").rglob("*"))
    if copy == "symlinks":
        assert files == table["id"]
    elif copy == "folder":
        assert files == [f"{item}.png" for item in table["id"]]
        again = tmp_path / "again"
        assert curate(data, again, f"data={tmp_path}/out/data", "target=10", "levels=[4,2]") == 0
        assert "cluster_l2" in pq.read_table(again / "subset.parquet").schema.names
    elif copy == "jsonl":
        kept = [
            json.loads(line)["id"] for line in (tmp_path / "out" / "data" / "subset.jsonl").read_text().splitlines()
        ]
        assert kept == table["id"]
        balance = json.loads((tmp_path / "out" / "balance.json").read_text())["labels"]
        assert balance["subset"]["entropy"] > balance["pool"]["entropy"], "the rare topic is drawn more often"
    else:
        assert np.array_equal(np.load(tmp_path / "out/data/embeddings.npy"), np.load(data / "emb.npy")[table["row"]])
        (store,) = (file.parent for file in (data / "runs" / "store" / "embed").glob("*/manifest.json")
                    if json.loads(file.read_text())["encoder"]["name"] == "none")  # fmt: skip
        assert not list(store.glob("*.npy")), "the rows were copied"


REFUSED = {
    "no data": (["size=4"], ["data: not given", "data=PATH"]),
    "no size": (["data={data}/emb.npy"], ["size: not given", "size=ROWS"]),
    "two sizes": (["data={data}/emb.npy", "size=4", "target=5"], ["target: 5", "4"]),
    "two pools": (["data={data}/emb.npy", "pool=digits", "size=4"], ["data", "pool is given too"]),
    "nowhere": (["data={data}/nothing", "size=4"], ["data", "nothing"]),
    "mixed": (["data={data}", "size=4"], ["data", "1 .tar files", "1 .jsonl files", "1 .npy files", "120 image files"]),
    "encoder of images": (["data={data}/texts.jsonl", "encoder=hog_color", "size=4"], ["encoder", "hashed_text"]),
    "encoder of texts": (["data={data}/images", "encoder=hashed_text", "size=4"], ["encoder", "hog_color"]),
    "encoder of nothing": (["data={data}/emb.npy", "encoder=pixels_pca", "size=4"], ["encoder", "encoder=none"]),
    "too many": (["data={data}/emb.npy", "size=121"], ["size", "121", "120"]),
    "unknown copy": (["data={data}/emb.npy", "size=4", "copy=zip"], ["copy", "zip", "npy"]),
    "unfit copy": (["data={data}/emb.npy", "size=4", "copy=folder"], ["copy", "vectors"]),
    "levels": (["data={data}/emb.npy", "size=4", "levels=3"], ["levels", "3"]),
    "levels that grow": (["data={data}/emb.npy", "size=4", "levels=[4,8]"], ["levels: "]),
    "no text": (["data={data}/../no_text.jsonl", "size=4"], ["data: ", "pool.text_field", "foo"]),
    "no such field": (["pool=jsonl", "pool.path={data}/../no_text.jsonl", "size=4"], ["pool.text_field: ", "foo"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str):
    overrides, expected = REFUSED[name]
    assert curate(data, tmp_path / "out", *(item.format(data=data) for item in overrides)) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    for word in expected:
        assert word in line, line
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_a_bad_line_stops_or_is_left_out(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    lines = (data / "texts.jsonl").read_text().splitlines()
    lines[5] = lines[5][:20]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    where = f"data={tmp_path}/t.jsonl"
    assert curate(data, tmp_path / "out", where, "size=20") == 2
    assert "line 6 of t.jsonl" in capfd.readouterr().err
    assert curate(data, tmp_path / "out", where, "size=100", "on_error=skip", "copy=jsonl") == 0
    table = pq.read_table(tmp_path / "out" / "subset.parquet").to_pydict()
    assert table["id"] == [f"t{row:03d}" for row in table["row"]], "rows are those of the user's file"
    assert table["row"] == np.load(tmp_path / "out" / "indices.npy").tolist() and 5 not in table["row"]
    kept = (tmp_path / "out" / "data" / "subset.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in kept] == table["id"]


def test_texts_train_no_image_model(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    pool = ["pool=jsonl", f"pool.path={data}/texts.jsonl", "encoder=hashed_text", f"paths.runs={tmp_path}/runs"]
    assert dispatch(arguments("run", *pool, "size=40", "ssl.batch_size=8", "~arms.hand")) == 2
    assert "pool: 'texts' holds text" in capfd.readouterr().err


def test_a_summary_of_a_pool_without_labels(tmp_path: Path):
    from strata.experiments.tracking import _summary

    (tmp_path / "balance.json").write_text('{"labels": null, "clusters": {}}')
    assert _summary(tmp_path) == {}


def test_levels_may_be_chosen_in_experiments():
    from hydra import compose, initialize_config_module

    from strata.curation.levels import auto_levels
    from strata.experiments.planning.plan import make_plan
    from strata.experiments.session import plain

    auto = [f"hierarchy.{name}=auto" for name in ("n_clusters", "n_resamples", "resample_size")]
    with initialize_config_module("strata.configs", version_base="1.3"):
        config = plain(compose("run", ["experiment=quickstart", "hierarchy=auto", "size=1600", *auto]))
    clusters = [stage.config["hierarchy"] for stage in make_plan(config).stages if stage.kind == "cluster"]
    n = next(stage.work for stage in make_plan(config).stages if stage.kind == "pool")
    levels = auto_levels(int(n), 1600)
    assert len(levels) > 1 and levels in [setting["n_clusters"] for setting in clusters]
    assert [40] in [setting["n_clusters"] for setting in clusters], "the flat arm keeps its own"
