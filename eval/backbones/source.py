"""What the name of a backbone means: which library opens it, from which folder or public name."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import timm

from strata.curation.errors import ConfigError

Library = Literal["timm", "transformers", "torchvision"]
WAYS = (
    "give a folder (strata's, timm's, transformers' or torchvision's), a timm name (timm:NAME), an id of the Hugging Face hub "
    "(hf:OWNER/NAME), torchvision:NAME, or untrained:ANY_OF_THESE"
)


@dataclass(frozen=True)
class Source:
    """Where a backbone comes from: its library, the folder or public name, and whether to leave its weights random."""

    library: Library
    name: str
    folder: Path | None
    untrained: bool


def source_of(path_or_name: str | Path) -> Source:
    """What a backbone's name means; only ``config.json`` of a folder is read.

    Raises:
        ConfigError: it is no folder of a known layout and no known kind of name.
    """
    given = str(path_or_name)
    untrained = given.startswith("untrained:")
    name = given.removeprefix("untrained:")
    prefix, _, rest = name.partition(":")
    libraries: dict[str, Library] = {"timm": "timm", "hf": "transformers", "torchvision": "torchvision"}
    if prefix in libraries:
        folder = Path(rest).expanduser()
        local = folder if rest.startswith(("/", "./", "../", "~")) or (folder / "config.json").is_file() else None
        return Source(libraries[prefix], rest, local, untrained)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Source(_library_of(folder), name, folder, untrained)
    if timm.is_model(name):
        return Source("timm", name, None, untrained)
    if name.startswith("timm/"):
        return Source("timm", f"hf-hub:{name}", None, untrained)
    if re.fullmatch(r"[\w-]+/[\w.-]+", name) and not name.startswith("."):
        return Source("transformers", name, None, untrained)
    raise ConfigError("backbone", f"{given!r} is no folder and no name that is known", WAYS)


def _library_of(folder: Path) -> Library:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError("backbone", f"{file} cannot be read ({error})", WAYS) from error
    kinds: dict[str, Library] = {"architecture": "timm", "torchvision": "torchvision", "model_type": "transformers"}
    found = next((library for field, library in kinds.items() if isinstance(config, dict) and field in config), None)
    if found is None:
        problem = f"{file} has none of {', '.join(kinds)}, so its library is not known"
        raise ConfigError("backbone", problem, WAYS)
    return found
