"""The files of configs/pool."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

import strata.configs
from strata.curation.paths import data_root
from strata.curation.pools.base import Pool

FILES = sorted((Path(strata.configs.__file__).parent / "pool").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_settings_are_arguments_of_the_target(file):
    config = OmegaConf.to_container(OmegaConf.load(file))
    module, name = config.pop("_target_").rsplit(".", 1)
    signature = inspect.signature(getattr(import_module(module), name))
    assert set(config) <= set(signature.parameters)
    for key, value in config.items():
        default = signature.parameters[key].default
        if value != "???" and default not in (inspect.Parameter.empty, None) and value is not None:
            assert isinstance(value, list) == isinstance(default, tuple)


@pytest.mark.parametrize("name", ["digits", "rendered"])
def test_pools_that_need_no_data(name):
    pool = instantiate(OmegaConf.load(FILES[0].parent / f"{name}.yaml"), _convert_="all")
    assert isinstance(pool, Pool) and pool[0].mode == "RGB"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("tinyimagenet_lt", 26735),
        ("caltech101", 6922),
        ("mixed", 54049),
        ("aid", 2759),
        ("aid_lt", 588),
        ("cifar10_lt", 1992),
    ],
)
def test_real_pools(name, n):
    root = data_root()
    if root is None or not (root / "images").is_dir():
        pytest.skip("no images; set STRATA_DATA")
    pool = instantiate(OmegaConf.load(FILES[0].parent / f"{name}.yaml"), _convert_="all")
    assert isinstance(pool, Pool) and len(pool) == n == len(set(pool.ids)) and pool.labels.min() >= 0
    assert pool.labels.max() < len(pool.label_names)
