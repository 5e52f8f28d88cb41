"""Dollar Street: household objects of the world, with income and region of the home."""

import ast
import csv
from typing import Any

from strata.curation.errors import ConfigError, DataError
from strata.eval.features import GROUP
from strata.eval.layouts.files import FilesPool, check_files, choose, need, open_root

LAYOUT = "ROOT/{images_v2_imagenet_train.csv, images_v2_imagenet_test.csv, assets/...}"
COLUMNS = ("imageRelPath", "topics", "income", "region.id", "country.name")
REGIONS = {"af": "africa", "as": "asia", "am": "the americas", "eu": "europe"}


def dollar_street(root: str, split: str, incomes: tuple[float, float] = (200.0, 2000.0)) -> FilesPool:
    """Images by their first topic, with the groups "income" (low, medium, high) and "region".

    Source: Gaviria Rojas et al., NeurIPS 2022 (MLCommons' release). Classes are the topics of both splits, sorted.

    Args:
        root: folder of the release.
        split: "train" or "test".
        incomes: dollars a month where "medium" and "high" begin. The paper does not say where it cuts; these are ours.

    Raises:
        ConfigError: it is not there in this layout. DataError: a line without a topic or income.
    """
    choose(split, ("train", "test"))
    folder = open_root(root, LAYOUT)
    lines = {part: _lines(folder, part) for part in ("train", "test")}
    topics = {part: [_topic(line) for line in found] for part, found in lines.items()}
    names = sorted({topic for found in topics.values() for topic in found})
    number = {name: i for i, name in enumerate(names)}
    wanted = lines[split]
    files = [line["imageRelPath"] for line in wanted]
    check_files(folder, files, LAYOUT)
    groups = {
        GROUP + "income": [_bucket(line, incomes) for line in wanted],
        GROUP + "region": [REGIONS.get(line["region.id"], line["region.id"]) for line in wanted],
    }
    about = {"layout": "dollar_street", "split": split, "incomes": list(incomes)}
    labels = [number[topic] for topic in topics[split]]
    return FilesPool(f"dollar_street-{split}", folder, files, labels, names, extra=groups, about=about)


def _lines(folder: Any, split: str) -> list[dict[str, str]]:
    path = need(folder / f"images_v2_imagenet_{split}.csv", LAYOUT)
    with open(path, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ConfigError("pool.root", f"{path} has no column {missing[0]!r}", f"the layout is {LAYOUT}")
        return list(reader)


def _topic(line: dict[str, str]) -> str:
    """The first of "['cups', 'plates']", or the text itself."""
    text = line["topics"].strip()
    try:
        found = ast.literal_eval(text) if text.startswith("[") else [text]
        return str(found[0])
    except (ValueError, SyntaxError, IndexError) as error:
        raise DataError(f"pool.root: {line['imageRelPath']} has topics {text!r}; fetch the csv again") from error


def _bucket(line: dict[str, str], incomes: tuple[float, float]) -> str:
    try:
        income = float(line["income"])
    except ValueError as error:
        raise DataError(
            f"pool.root: {line['imageRelPath']} has income {line['income']!r}; fetch the csv again"
        ) from error
    return "low" if income < incomes[0] else "medium" if income < incomes[1] else "high"
