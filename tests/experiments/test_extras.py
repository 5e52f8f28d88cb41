"""Errors that name an extra name one that there is."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("curation", "ssl", "eval", "experiments")


def test_every_missing_extra_exists():
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for file in (file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        for package, extra in re.findall(r"MissingExtraError\(\s*\"([^\"]*)\",\s*\"([^\"]*)\"", file.read_text()):
            assert extra in extras, f"{file}: {package} is not in an extra called {extra!r}; there are {sorted(extras)}"
