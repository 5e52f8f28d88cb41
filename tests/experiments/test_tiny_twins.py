"""Every experiment on web images runs to its report at scale=tiny: the same arms, stages and tables on digits, one seed."""

from pathlib import Path

import pytest

from strata.experiments.cli import dispatch

NEW_SHAPES = [
    "table4_extractor",
    "sampling_noise",
]  # an encoder that an arm trains; further draws from the same clusters
OTHERS = [
    "table1_headline", "table2_imbalance", "table3_ablations", "table3_learned", "table5a_classification",
    "control_random", "baselines", "batch_balance", "budget", "other_ssl",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all, as a user has it: what experiments share is run once."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("name", [*NEW_SHAPES, *[pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]])
def test_tiny_twin(name: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setenv("STRATA_RUNS", str(runs))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert dispatch(["run", f"experiment={name}", "scale=tiny", "seeds=[0]", "runner.workers=0"]) == 0, (
        capfd.readouterr()
    )
    (folder,) = (runs / name).iterdir()
    written = {file.name for file in folder.iterdir()}
    assert {"table.md", "table.csv", "table.tex", "figure.png", "figure.svg", "report.html", "values.csv"} <= written
    text = (folder / "table.md").read_text()
    assert "not run" not in text.lower().replace("not run yet", ""), text
    if name == "table4_extractor":
        assert "| base" in text and "beside the paper" in text and ": claims" in text
    if name == "sampling_noise":
        draws = [file.read_bytes() for file in runs.glob("store/sample/*/subset.parquet")]
        assert "sampling noise" in text and "below 0.1" in text and len(set(draws)) == len(draws)
