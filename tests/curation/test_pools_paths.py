"""Where data sets are looked up."""

import pytest

from strata.curation import paths
from strata.curation.errors import ConfigError


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A working directory without data, of a strata that is not run from a checkout."""
    monkeypatch.delenv("STRATA_DATA", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "strata" / "curation" / "paths.py"))
    return tmp_path


def test_no_root(bare):
    assert paths.data_root() is None


def test_order_of_places(bare, monkeypatch):
    checkout = bare / "repos" / "strata"
    (checkout / "curation").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    monkeypatch.setattr(paths, "__file__", str(checkout / "curation" / "paths.py"))
    for place in (
        bare / "repos/shared/data",
        checkout / "data",
        bare / "shared/data",
        bare / "work/data",
        bare / "env",
    ):
        place.mkdir(parents=True)
        if place.name == "env":
            monkeypatch.setenv("STRATA_DATA", str(place))
        assert paths.data_root() == place.resolve()  # each new one is found before those that were there


def test_environment_that_is_missing_is_an_error(bare, monkeypatch):
    (bare / "work/data").mkdir()
    monkeypatch.setenv("STRATA_DATA", str(bare / "typo"))
    with pytest.raises(ConfigError, match=r"STRATA_DATA.*typo.*not a folder"):
        paths.data_root()


def test_relative_path_is_taken_from_cwd_first(bare, monkeypatch):
    root = bare / "root"
    (root / "images/a").mkdir(parents=True)
    monkeypatch.setenv("STRATA_DATA", str(root))
    assert paths.resolve_data_path("images/a") == root / "images/a"
    (bare / "work/images/a").mkdir(parents=True)
    assert paths.resolve_data_path("images/a") == bare / "work/images/a"
    assert paths.resolve_data_path(str(root / "images")) == root / "images"


def test_error_lists_the_places(bare, monkeypatch):
    monkeypatch.setenv("STRATA_DATA", str(bare))
    with pytest.raises(ConfigError) as caught:
        paths.resolve_data_path("images/none", "pool.root")
    message = str(caught.value)
    assert message.startswith("pool.root: ") and "\n" not in message
    assert str(bare / "work/images/none") in message and str(bare / "images/none") in message
    assert "STRATA_DATA" in message


@pytest.mark.parametrize("path", ["", "/no/such/folder"])
def test_bad_absolute_or_empty_path(bare, path):
    with pytest.raises(ConfigError, match=r"pool\.path"):
        paths.resolve_data_path(path)
