"""results/paper_map.csv: every part of the paper's method has code that is there, documented, and a test by name."""

import ast
import csv
import inspect
import re
from pathlib import Path

import pytest
from hydra.utils import get_object

ROOT = Path(__file__).parents[2]
with open(ROOT / "results" / "paper_map.csv", newline="") as stream:
    ROWS = list(csv.DictReader(stream))
SOURCE = re.compile(r"2405\.15613|[Pp]aper|Fig(ure|s)?\. ?\d|Algorithm 1|LVD-142M")


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['section']}: {row['what']}" for row in ROWS])
def test_code_and_test_are_there(row):
    if row["code"].endswith(".yaml"):
        assert (ROOT / row["code"]).is_file()
    else:
        found = get_object(row["code"])
        module = inspect.getmodule(found)
        assert found.__doc__ and module and SOURCE.search(f"{module.__doc__} {found.__doc__}"), "names its source"
    file, name = row["test"].split("::")
    names = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)}
    assert name in names


def test_every_section_of_the_method_is_mapped():
    assert {"3.2", "3.3", "4.1", "Fig. 2", "Fig. 3", "Fig. 4", "Fig. 5"} <= {row["section"] for row in ROWS}
