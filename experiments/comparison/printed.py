"""What the paper printed, from results/paper/*.csv: the only place where its numbers stand."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from strata.curation.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[2] / "results" / "paper"
SOURCES = {
    "PDF": "printed",
    "VEC": "measured from the drawing",
    "NB": "the authors' notebook",
    "DER": "derived from the text",
}


@dataclass(frozen=True)
class Printed:
    """One number of the paper, in the unit that it is printed in, and where it stands."""

    value: float
    unit: str
    source: str

    @property
    def percent(self) -> bool:
        """Whether it is in percent."""
        return self.unit.startswith("%")


@cache
def printed_numbers(file: str) -> dict[tuple[str, str], list[Printed]]:
    """(arm, column) -> its numbers, one for each source, the first one first.

    Raises:
        ConfigError: there is no such table.
    """
    path = FOLDER / f"{file}.csv"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in FOLDER.glob("*.csv"))) or f"nothing in {FOLDER}"
        raise ConfigError("printed.file", f"there is no {file!r}", f"use one of {known}")
    numbers: dict[tuple[str, str], list[Printed]] = {}
    with open(path, newline="") as stream:
        for row in csv.DictReader(stream):
            found = Printed(float(row["value"]), row["unit"], row["source"])
            numbers.setdefault((row["arm"], row["metric"]), []).append(found)
    return numbers


@cache
def printed_columns() -> frozenset[str]:
    """The names of all columns of all tables."""
    tables = [printed_numbers(file.stem) for file in FOLDER.glob("*.csv")]
    return frozenset(column for table in tables for _, column in table)
