"""Revisited Oxford and Paris: queries, database, and which images of it are easy, hard or junk for each query."""

import json
from pathlib import Path
from typing import Any

from strata.curation.errors import ConfigError, DataError
from strata.eval.layouts.files import FilesPool, check_files, need, open_root

LAYOUT = "ROOT/jpg/*.jpg and ROOT/gnd_NAME.json"
CONVERT = (
    "the ground truth is published as a pickle, which is never read here: convert it once, in Python, with "
    "`import json, pickle, numpy; g = pickle.load(open('gnd_NAME.pkl', 'rb')); json.dump(g, open('gnd_NAME.json', 'w'), "
    "default=lambda v: v.tolist())`, on a file that you trust"
)
KINDS = ("easy", "hard", "junk")


def revisited(root: str, name: str) -> tuple[FilesPool, FilesPool]:
    """Queries (cut to their boxes) and database.

    The queries have the columns "easy", "hard" and "junk": rows of the database.
    Source: Radenovic et al., arXiv:1803.11285; filipradenovic/revisitop.

    Args:
        root: folder with ``jpg`` and the ground truth, ``gnd_<name>.json`` with ``imlist``, ``qimlist`` and ``gnd``.
        name: "roxford5k" or "rparis6k".

    Raises:
        ConfigError: it is not there in this layout. DataError: rows outside the database.
    """
    folder = open_root(root, LAYOUT)
    truth = folder / f"gnd_{name}.json"
    if not truth.is_file():
        raise ConfigError("benchmark.root", f"{truth} is not there", CONVERT)
    images, queries, known = _read(truth)
    pools = []
    boxes = [tuple(float(side) for side in entry["bbx"]) for entry in known]
    extra = {kind: [[int(row) for row in entry.get(kind, [])] for entry in known] for kind in KINDS}
    rows = [row for kind in KINDS for found in extra[kind] for row in found]
    if rows and not 0 <= min(rows) <= max(rows) < len(images):
        problem = f"{truth} names images {min(rows)} to {max(rows)}, and imlist has {len(images)}"
        raise DataError(f"benchmark.root: {problem}; convert it again")
    for listed, part in ((queries, "queries"), (images, "database")):
        files = [f"jpg/{image}.jpg" for image in listed]
        need(folder / "jpg", LAYOUT)
        check_files(folder, files, LAYOUT)
        of_queries: dict[str, Any] = {"extra": extra, "boxes": boxes} if part == "queries" else {}
        about = {"layout": "revisited", "name": name, "part": part}
        pools.append(FilesPool(f"{name}-{part}", folder, files, None, None, about=about, **of_queries))
    return pools[0], pools[1]


def _read(truth: Path) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    try:
        read = json.loads(truth.read_text())
        images, queries, known = list(read["imlist"]), list(read["qimlist"]), list(read["gnd"])
        bad = next((entry for entry in known if len(entry["bbx"]) != 4), None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError("benchmark.root", f"{truth} cannot be used ({error!r})", CONVERT) from error
    if bad is not None or len(known) != len(queries):
        raise DataError(
            f"benchmark.root: {truth} has {len(queries)} queries and {len(known)} entries in gnd; convert it again"
        )
    return images, queries, known
