"""What `strata COMMAND --help` prints: config groups with their choices, and the command's own settings."""

import re
from importlib.resources import files
from pathlib import Path

import yaml

FLAGS = """flags, anywhere on the line
  --cfg job          print the composed settings and stop
  -m                 run once for each of the values: seeds=[0],[1]
  --config-dir DIR   look for config files in a folder of yours too: DIR/experiment/mine.yaml
"""
CONFIG_OF = {"plan": "run", "table": "run"}


def command_help(command: str, what: str, config_dirs: list[str]) -> str:
    """The text for one command. Nothing is composed, so that nothing has to be given."""
    name = CONFIG_OF.get(command, command)
    groups = {group: choices(group, config_dirs) for group in groups_of(name)}
    lines = [f"usage: strata {command} {_needed(name)}[setting=value ...]", "", f"  {what}", ""]
    if groups:
        lines += ["groups: GROUP=CHOICE, then e.g. GROUP.SETTING=VALUE"]
        lines += [f"  {group:<11} {', '.join(found)}" for group, found in groups.items()]
        lines += [""]
    lines += ["settings", _settings(name), _settings("common"), FLAGS]
    return "\n".join(lines)


def groups_of(name: str) -> list[str]:
    """The config groups of ``configs/<name>.yaml``: those of its defaults list, and those that fill its empty nodes."""
    config = yaml.safe_load(_text(name))
    defaults = [next(iter(entry)) for entry in config["defaults"] if isinstance(entry, dict)]
    found = [entry.split("@")[0].removeprefix("override ") for entry in defaults]
    found += [group for group in ("protocol", "benchmark") if f"{group}s" in config]
    found += ["suite"] if "means" in config else []  # lists of benchmarks: benchmark=SUITE
    return list(dict.fromkeys(group for group in found if "hydra" not in group))


def choices(group: str, config_dirs: list[str]) -> list[str]:
    """The files of a group, ours and those of the user's config folders."""
    ours = files("strata.configs").joinpath(group)
    names = {entry.name for entry in ours.iterdir()} if ours.is_dir() else set()
    for folder in config_dirs:
        names |= {file.name for file in (Path(folder) / group).glob("*.yaml")}
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def _needed(name: str) -> str:
    return "experiment=NAME " if name == "run" else ""


def _settings(name: str) -> str:
    """A config file without its defaults list and Hydra's own part."""
    blocks = re.split(r"^(?=\S)", _text(name), flags=re.MULTILINE)
    kept = [block.rstrip() for block in blocks if block.strip() and not block.startswith(("defaults:", "hydra:", "#"))]
    return "\n".join("  " + line for block in kept for line in block.splitlines())


def _text(name: str) -> str:
    return files("strata.configs").joinpath(f"{name}.yaml").read_text()
