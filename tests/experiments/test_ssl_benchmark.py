"""The benchmark of pre-training: its own side runs, and its report says what was measured."""

import json
from pathlib import Path

import pytest

from strata.curation.pools.rendered import RenderedPool
from strata.experiments.benchmarks import ssl as benchmark
from strata.experiments.benchmarks.ssl import PRECISIONS, Setting, ours, recipe, report, write_section

SMALL = Setting(
    dim=32, depth=1, heads=1, n_local=1, hidden=16, bottleneck=8, prototypes=16, batch=4, threads=1, steps=2
)


def test_our_side_runs(tmp_path: Path):
    (tmp_path / "images").mkdir()
    for row in range(6):
        RenderedPool(6, size=64)[row].save(tmp_path / "images" / f"{row}.jpg")
    found = ours(SMALL, "32-true", str(tmp_path / "images"), str(tmp_path / "out"))
    assert found["images_per_s"] > 0 and 0 <= found["data_wait"] < 1 and 0 < found["mfu"] < 1


def test_both_sides_train_the_same_network():
    config = recipe(SMALL, "bf16-mixed")
    assert (config.global_size, config.local_size, config.n_local, config.batch_size) == (48, 24, 1, 4)
    assert config.model_kwargs["embed_dim"] == 32 and config.precision == "bf16-mixed"
    for name in (
        "dim",
        "depth",
        "heads",
        "patch",
        "global_size",
        "local_size",
        "n_local",
        "hidden",
        "prototypes",
        "batch",
    ):
        assert f's["{name}"]' in benchmark.PEER


def test_report_and_its_sections(tmp_path: Path):
    def runs(rates, **more):
        return [{"images_per_s": rate, "data_wait": 0.01, "torch": "2", **more} for rate in rates]

    measured = {}
    for precision, scale in zip(PRECISIONS, (1, 3), strict=True):
        measured["ours", precision] = runs([30 * scale, 20 * scale, 40 * scale], mfu=0.5)
        measured["theirs", precision] = runs([20 * scale, 20 * scale, 10 * scale], version="1.0")
    text = report(SMALL, measured)
    assert "| 32-true | 30.0 | 20.0 | 1.50 | 1.50, 1.00, 4.00 | 1.0% | 1.0% | 50.0% | 33.3% |" in text
    assert "Best of each: 90.0 against 60.0 images/s, a ratio of 1.50" in text
    file = tmp_path / "results" / "ssl.md"
    for name, body in (("b", "one"), ("a", "two"), ("b", "three\n\nmore")):
        write_section(file, name, body)
    assert file.read_text().split("\n", 1)[1] == "\n## a\n\ntwo\n\n## b\n\nthree\n\nmore\n"


def test_a_peer_that_fails_is_named(tmp_path: Path):
    with pytest.raises(SystemExit, match="theirs, 32-true: exit code"):
        (tmp_path / "peer.py").write_text("raise SystemExit('no such package')")
        benchmark.measure("theirs", benchmark.sys.executable, SMALL, "32-true", tmp_path)
    assert json.dumps(vars(SMALL))
