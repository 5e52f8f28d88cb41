"""Every config file composes, and every experiment plans where its data is there."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module

from strata.curation.paths import data_root
from strata.experiments.comparison.claims import left_out
from strata.experiments.planning.checks_stages import check_hierarchy
from strata.experiments.planning.plan import make_plan
from strata.experiments.session import plain

CONFIGS = Path(__file__).parents[2] / "configs"
RESULTS = CONFIGS.parent / "results"
EXPERIMENTS = sorted(file.stem for file in (CONFIGS / "experiment").glob("*.yaml"))
NEEDS_DATA = {
    "tinyimagenet_lt": ["images/tinyimagenet_lt"],
    "fig4_clusters_per_class": ["images/tinyimagenet_lt", "images/caltech101"],
    "fig5_tree": ["images/tinyimagenet_lt", "images/caltech101"],
    "table6_text": ["text", "lm_eval"],
    "table7_satellite": ["satellite/aid", "satellite/globe_height"],
    "table5b_dense": ["satellite/globe_height"],
    "table5c_fairness": ["images/pacs"],
    "balance_of_subsets": [
        *(f"images/{x}" for x in ("tinyimagenet_lt", "caltech101", "cifar10_small")),
        "satellite/aid",
    ],
}


def composed(*overrides: str):
    with initialize_config_module("strata.configs", version_base="1.3"):
        return plain(compose("run", list(overrides)))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_plans(name: str):
    for needed in NEEDS_DATA.get(name, []):
        if data_root() is None or not (data_root() / needed).is_dir():
            pytest.skip(f"{needed} is not in the data folder; set STRATA_DATA")
    config = composed(f"experiment={name}")
    plan = make_plan(config)
    assert left_out(config) == [], "a claim of an arm that the experiment has not"
    assert plan.name == name, "an experiment is named as its file"
    assert len(plan.runs) == len(config["arms"]) * len(config["seeds"]) and len(config["seeds"]) >= 3
    for prefix in [f"{group}_" for group in config["table"].get("groups") or []] or [""]:
        controls = {f"{prefix}raw", f"{prefix}random"}
        assert config["ssl"] is None or controls <= set(config["arms"]), "the controls are in every comparison"
    text = (CONFIGS / "experiment" / f"{name}.yaml").read_text()
    for heading in ("# What it shows:", "# What to expect:", "# What it costs:"):
        assert heading in text
    assert "PLACEHOLDER" not in text


@pytest.mark.parametrize(
    "choice",
    [f"{group}={file.stem}" for group in ("pool", "encoder", "hierarchy", "sampler", "ssl")
     for file in sorted((CONFIGS / group).glob("*.yaml"))],
)  # fmt: skip
def test_every_choice_composes(choice: str):
    with initialize_config_module("strata.configs", version_base="1.3"):
        config = compose("run", ["experiment=quickstart", choice])
    assert config[choice.split("=")[0]]


@pytest.mark.parametrize("file", sorted((CONFIGS / "ssl").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_is_valid(file: Path):
    from strata.experiments.settings.build import typed
    from strata.ssl.image.config import ImageSSLConfig
    from strata.ssl.text.config import TextSSLConfig

    kind = TextSSLConfig if file.stem.startswith("llama_") else ImageSSLConfig
    with initialize_config_module("strata.configs", version_base="1.3"):
        config = compose("run", ["experiment=quickstart", f"ssl={file.stem}"])
    assert typed(kind, config.ssl, "ssl").steps > 0


@pytest.mark.parametrize("levels", [[8], [20, 8], [60, 20, 8], [90, 60, 20, 8]])
def test_micro_clusters_any_number_of_levels(levels: list[int]):
    with initialize_config_module("strata.configs", version_base="1.3"):
        config = plain(compose("curate", ["hierarchy=micro", "size=5", "out=x", f"hierarchy.n_clusters={levels}"]))
    check_hierarchy(config["hierarchy"], 1000)


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if (RESULTS / name / "config.yaml").is_file()])
def test_committed_results_still_have_their_settings(name: str):
    """What an experiment's committed config says of pool, encoder, clustering and recipe is what its file composes.

    Settings that came after the results were made are not in it.
    """
    committed, now = yaml.safe_load((RESULTS / name / "config.yaml").read_text()), composed(f"experiment={name}")
    for setting in ("pool", "encoder", "hierarchy", "sampler", "ssl", "size", "seeds", "protocols", "benchmarks"):
        assert known(now[setting], committed[setting]) == committed[setting], setting


def known(now: Any, committed: Any) -> Any:
    """``now`` without the settings that ``committed`` has not."""
    if not isinstance(now, dict) or not isinstance(committed, dict):
        return now
    return {name: known(value, committed[name]) for name, value in now.items() if name in committed}
