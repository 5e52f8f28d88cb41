"""`strata compare` and `strata rescore` on scores folders; the evaluation benchmark at tiny size."""

import json

import numpy as np
import pytest

from strata.curation.artifact import create_artifact
from strata.curation.shards import write_items
from strata.eval.protocols.knn import KNN
from strata.eval.scores import read_scores
from strata.experiments.benchmarks.eval import measure
from strata.experiments.cli import dispatch

NEAREST = {"_target_": "strata.eval.protocols.knn.KNN", "k": [1], "temperature": 0.07, "headline_k": 1}


@pytest.fixture
def store(tmp_path):
    """A store with scores of two backbones on the same images."""
    for key, noise in {"aaaa1": 0.3, "bbbb1": 0.8}.items():
        with create_artifact(tmp_path / key, "features") as draft:
            about = {}
            for split, n in {"train": 80, "test": 60}.items():
                y = np.arange(n) % 4
                cls = np.eye(4)[y] + noise * np.random.default_rng(n).standard_normal((n, 4))
                (draft.path / split).mkdir()
                for name in ("cls", "avg"):
                    np.save(draft.path / split / f"{name}.npy", cls[:, None].astype(np.float32))
                write_items(draft.path / split, [f"{split}-{row}" for row in range(n)], y)
                about[split] = {"n": n, "pool": {"name": "toy"}, "fingerprint": split}
            draft.meta.update(
                splits=about, label_names=list("abcd"), backbone={"name": f"net-{key}", "key": f"k-{key}"}
            )
        folder = tmp_path / "runs" / "store" / "evaluate" / key
        folder.parent.mkdir(parents=True, exist_ok=True)
        KNN(k=[1], headline_k=1).run(
            tmp_path / key, folder, benchmark="toy", device="cpu", key=key, config={"protocol": NEAREST}
        )
    return tmp_path / "runs"


@pytest.mark.parametrize(("a", "b"), [("aaaa1", "bbbb1"), ("net-aaaa1", "net-bbbb1"), ("k-aaaa1", "k-bbbb1")])
def test_compare_by_key_or_backbone(store, tmp_path, capfd, a, b):
    assert dispatch(["compare", f"a={a}", f"b={b}", f"paths.runs={store}", f"out={tmp_path / 'out'}"]) == 0
    assert "| knn-v1 | toy | top1 |" in capfd.readouterr().out
    first = json.loads((tmp_path / "out" / "compare.json").read_text())[0]
    values = [read_scores(store / "store" / "evaluate" / key)[0].value for key in ("aaaa1", "bbbb1")]
    assert [first["a"], first["b"]] == values
    assert first["ci_low"] <= first["difference"] <= first["ci_high"]


def test_what_is_not_there(store, tmp_path, capfd):
    assert dispatch(["compare", "a=aaaa1", "b=nothing", f"paths.runs={store}", f"out={tmp_path / 'out'}"]) == 2
    assert "b: 'nothing' is no scores folder" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rescore(store, tmp_path, capfd):
    assert dispatch(["rescore", "scores=aaaa1", f"out={tmp_path / 'new'}", f"paths.runs={store}"]) == 0
    assert read_scores(tmp_path / "new") == read_scores(store / "store" / "evaluate" / "aaaa1")
    assert dispatch(["rescore", "scores=aaaa1", f"out={tmp_path / 'new'}", f"paths.runs={store}"]) == 2
    assert "exists already" in capfd.readouterr().err


def test_the_benchmark_runs_at_tiny_size():
    report = measure(tiny=True, rounds=1, parts=["linear", "knn"])
    assert "| 16 | 3 |" in report
    assert "100.000 % of the neighbors are the same" in report
