"""The worked examples of experiments/HOWTO.md: each is under 20 lines, and together they run."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from strata.curation import EmbeddingStore
from strata.experiments.cli import dispatch

TEXT = (Path(__file__).parents[2] / "experiments" / "HOWTO.md").read_text()
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the page says to write."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        file = folder / name.removeprefix("DIR/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.fixture(autouse=True)
def environment(own: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(own))
    monkeypatch.setenv("PYTHONPATH", str(own))  # of the workers
    monkeypatch.setenv("STRATA_RUNS", str(own / "runs"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    yield
    for module in ("my_pools", "my_protocols"):
        sys.modules.pop(module, None)


def test_every_example_is_short():
    assert set(FILES) == {
        "my_pools.py", "DIR/pool/squares.yaml", "DIR/experiment/mine.yaml", "DIR/ssl/fast.yaml", "my_protocols.py",
        "DIR/protocol/nearest.yaml",
    }  # fmt: skip
    for name, text in FILES.items():
        assert len([line for line in text.splitlines() if line.strip()]) < 20, name


def test_a_data_set(own: Path):
    words = ["embed", "--config-dir", str(own), "pool=squares", "encoder=pixels_pca", "encoder.n_components=2"]
    assert dispatch([*words, f"out={own / 'embedded'}"]) == 0
    store = EmbeddingStore.open(own / "embedded")
    vectors, labels = np.asarray(store), np.asarray(store.labels)
    assert vectors.shape == (200, 2)
    centers = np.stack([vectors[labels == c].mean(0) for c in (0, 1)])
    assert (np.linalg.norm(vectors[:, None] - centers, axis=2).argmin(1) == labels).all()


def test_an_arm_a_trainer_and_a_protocol(own: Path, capfd: pytest.CaptureFixture[str]):
    words = ["run", "--config-dir", str(own), "experiment=mine", "ssl=fast", "+protocol@protocols.nearest=nearest"]
    less = ["seeds=[0]", "~arms.flat", "~arms.hand", "runner.workers=0"]
    assert dispatch([*words, *less]) == 0, capfd.readouterr().err
    (folder,) = (own / "runs" / "mine").iterdir()
    values = (folder / "values.csv").read_text()
    for arm in ("raw", "random", "hierarchical", "closest", "dense"):
        assert f"{arm},0,digits,nearest-v1 top1," in values and f"{arm},0,digits,knn-v1 top1," in values
    assert "closest rows are as good as random ones" in (folder / "table.md").read_text()


def test_the_cluster_commands_are_commands(own: Path, capfd: pytest.CaptureFixture[str]):
    (block,) = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    plan, run = block.splitlines()
    assert dispatch(plan.split()[1:]) == 0, capfd.readouterr().err
    assert "743" not in capfd.readouterr().err
    words = run.replace("strata run", "plan", 1).replace("DIR", str(own)).split()
    assert dispatch(words) == 0, capfd.readouterr().err
