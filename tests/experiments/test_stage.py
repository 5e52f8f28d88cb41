from pathlib import Path

import pytest

from strata.curation.artifact import create_artifact
from strata.curation.errors import DataError
from strata.experiments import stage as stage_file
from strata.experiments.stage import Stage, unique
from strata.experiments.store import Store


@pytest.fixture(autouse=True)
def light_modules(monkeypatch: pytest.MonkeyPatch):
    """Stage kinds without their heavy modules."""

    class Module:
        VERSION = 1

    monkeypatch.setattr(stage_file, "stage_module", lambda kind: Module)
    return Module


def chain(**config):
    pool = Stage("pool", {"fingerprint": "x"}, label="a")
    return Stage("embed", {"d": 3, **config}, {"pool": pool}, {"device": "cpu"}, "b")


def test_key_depends_on_config_inputs_and_version_only(light_modules):
    key = chain().key
    assert key == chain().key and len(key) == 16
    assert key != chain(d=4).key
    other_pool = Stage("embed", {"d": 3}, {"pool": Stage("pool", {"fingerprint": "y"})})
    assert key != other_pool.key
    same = Stage(
        "embed", {"d": 3}, {"pool": Stage("pool", {"fingerprint": "x"})}, {"device": "cuda"}, "other name", 5.0
    )
    assert key == same.key
    light_modules.VERSION = 2
    assert key != chain().key


def test_unique_gives_shared_stages_once_and_inputs_first():
    one, two = chain(), chain(d=4)
    found = unique([one, two, one])
    assert [s.kind for s in found] == ["pool", "embed", "embed"]
    assert len({s.key for s in found}) == 3


def test_store_knows_only_whole_folders(tmp_path: Path):
    store, stage = Store(tmp_path / "store"), chain()
    assert not store.done(stage) and not (tmp_path / "store").exists()
    with pytest.raises(RuntimeError), create_artifact(store.path(stage), "embeddings", key=stage.key) as draft:
        (draft.path / "part").write_text("half")
        raise RuntimeError("killed")
    assert not store.done(stage) and store.started(stage)
    with create_artifact(store.path(stage), "embeddings", key=stage.key) as draft:
        assert (draft.path / "part").read_text() == "half", "what the killed run left is there to resume from"
    assert store.done(stage) and not store.started(stage)
    assert store.find(stage.key[:6]) == store.path(stage)
    with pytest.raises(DataError, match="names no stage"):
        store.find("ffff")


def test_artifact_of_another_key_is_not_resumed(tmp_path: Path):
    for key, error in (("one", RuntimeError), ("two", DataError)):
        with pytest.raises(error), create_artifact(tmp_path / "a", "pool", key=key) as draft:
            assert list(draft.path.iterdir()) == [draft.path / "key.txt"]
            (draft.path / "part").write_text(key)
            raise error("stop")
    assert not any(tmp_path.iterdir()), "a refusal leaves nothing behind"
