"""Flags and overrides in any order, `--help` without an experiment, and keys that look like numbers."""

import itertools

import pytest
from flow import CONF, arguments

from strata.curation.errors import ConfigError
from strata.experiments.cli import COMMANDS, dispatch
from strata.experiments.console.arguments import ordered, values_of


def test_flags_come_first_whatever_the_order():
    parts = [["experiment=x"], ["--config-dir", "d"], ["-m"], ["seeds=[0],[1]"], ["~pool.n"]]
    for order in itertools.permutations(parts):
        flags, overrides = ordered("run", list(itertools.chain(*order)))
        assert values_of(flags, "--config-dir") == ["d"] and "--multirun" in flags and len(flags) == 3
        assert overrides == [word for part in order for word in part if "=" in word or word.startswith("~")]


def test_values_of_flags():
    assert ordered("run", ["-c", "job", "a=1"]) == (["--cfg", "job"], ["a=1"])
    assert ordered("run", ["--cfg=job", "a=1"]) == (["--cfg", "job"], ["a=1"])
    assert ordered("run", ["--info", "a=1"]) == (["--info", "all"], ["a=1"])
    assert ordered("run", ["--info", "defaults", "a=1"]) == (["--info", "defaults"], ["a=1"])
    with pytest.raises(ConfigError, match="--config-dir"):
        ordered("run", ["--config-dir", "--cfg", "job"])


@pytest.mark.parametrize("key", ["1e5", "0012", "123", "1_000", "inf", "nan", "null", "true", "3f2a"])
def test_keys_stay_text(key: str):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    _, (override,) = ordered("why", [f"key={key}"])
    assert OverridesParser.create().parse_override(override).value() == key


def test_overrides_on_both_sides_of_a_flag(capfd: pytest.CaptureFixture[str]):
    assert dispatch(["plan", "experiment=tiny", "--cfg", "job", "size=77", "--config-dir", str(CONF), "seeds=[5]"]) == 0
    composed = capfd.readouterr().out
    assert "name: tiny" in composed and "size: 77" in composed and "seeds:\n- 5" in composed


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_nothing(command: str, capfd: pytest.CaptureFixture[str]):
    assert dispatch([command, "--help"]) == 0
    said = capfd.readouterr().out
    assert f"usage: strata {command}" in said and "wandb:" in said and "--cfg job" in said
    groups = {"run": "experiment", "plan": "ssl", "table": "arms", "curate": "hierarchy", "embed": "encoder",
              "eval": "benchmark"}  # fmt: skip
    if command in groups:
        assert f"\n  {groups[command]} " in said
    assert "hydra" not in said and "defaults:" not in said


def test_help_lists_the_experiments_of_the_users_folder(capfd: pytest.CaptureFixture[str]):
    assert dispatch(arguments("run", "--help")) == 0
    experiments = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("  experiment "))
    assert "quickstart" in experiments and "tiny," in experiments
