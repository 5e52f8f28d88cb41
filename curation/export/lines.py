"""A subset of texts as JSON Lines."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.curation.export.items import iter_items
from strata.curation.pools.base import Pool
from strata.curation.pools.content import line_of


def write_jsonl(pool: Pool, rows: NDArray[np.int64], repeats: Sequence[int], out: Path) -> None:
    """``subset.jsonl``: the lines as they are in the pool's own file, or else id, text and label (name)."""
    out.mkdir()
    with open(out / "subset.jsonl", "wb") as stream:
        for item in iter_items(pool, rows, repeats, "lines"):
            line = line_of(pool, item.row)
            if line is None:
                record: dict[str, str | int] = {"id": item.item_id, "text": item.data.decode()}
                if item.label is not None:
                    record["label"] = item.label if item.label_name is None else item.label_name
                line = json.dumps(record, ensure_ascii=False).encode()
            stream.write(line + b"\n")
