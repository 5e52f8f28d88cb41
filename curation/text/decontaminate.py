"""Documents that share a long run of words with an evaluation set: found exactly, counted, and left out.

GPT-3 (arXiv:2005.14165, appendix C) and most work since call a document contaminated if 13 words in a row also stand in an
evaluation text, after lower-casing and without punctuation. An evaluation text of fewer than 13 words cannot be found so;
how many there are is told.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from strata.curation.errors import ConfigError

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """What of a pool is in the evaluation sets.

    Attributes:
        rows: contaminated rows, ascending. int64.
        table: one line per (row, set): row, set, item (number of the evaluation text), words (the shared run).
        counts: set -> contaminated documents.
        n_texts: set -> evaluation texts.
        too_short: set -> those of fewer words than the run.
    """

    rows: Int[np.ndarray, " m"]
    table: pa.Table
    counts: dict[str, int]
    n_texts: dict[str, int]
    too_short: dict[str, int]


def find_overlap(documents: Iterable[str], sets: Mapping[str, Iterable[str]], n: int = 13) -> Overlap:
    """Every document that shares ``n`` words in a row with a text of a set.

    Words are runs of letters, digits and underscores in lower case. Exact: no hash of words is compared.

    Raises:
        ConfigError: ``n`` below 2.
    """
    if n < 2:
        raise ConfigError("text.decontaminate.n", f"{n} words", "use 2 or more; 13 is usual")
    numbers: dict[str, int] = {}
    grams: dict[str, dict[bytes, int]] = {}
    n_texts, too_short = {}, {}
    for name, texts in sets.items():
        found: dict[bytes, int] = {}
        n_texts[name] = too_short[name] = 0
        for item, text in enumerate(texts):
            words = np.array([numbers.setdefault(word, len(numbers) + 1) for word in _words(text)], np.int32)
            n_texts[name] += 1
            too_short[name] += len(words) < n
            for start in range(len(words) - n + 1):
                found.setdefault(words[start : start + n].tobytes(), item)
        grams[name] = found
    hits = [
        (row, name, *hit) for row, document in enumerate(documents) for name, hit in _hits(document, numbers, grams, n)
    ]
    columns = {"row": pa.int64(), "set": pa.string(), "item": pa.int64(), "words": pa.string()}
    table = pa.table({name: pa.array([hit[i] for hit in hits], kind) for i, (name, kind) in enumerate(columns.items())})
    rows = np.unique(np.array([hit[0] for hit in hits], np.int64))
    counts = {name: sum(hit[1] == name for hit in hits) for name in sets}
    return Overlap(rows, table, counts, n_texts, too_short)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _hits(
    document: str, numbers: dict[str, int], grams: dict[str, dict[bytes, int]], n: int
) -> Iterator[tuple[str, tuple[int, str]]]:
    """(set, (item, words)) of the first shared run with each set. Words that no set has end a run at once."""
    words = _words(document)
    ids = np.array([numbers.get(word, 0) for word in words], np.int32)
    for start in _starts(ids, n).tolist():
        run = ids[start : start + n].tobytes()
        for name in [name for name, found in grams.items() if run in found]:
            yield name, (grams[name][run], " ".join(words[start : start + n]))
            grams = {other: found for other, found in grams.items() if other != name}


def _starts(ids: Int[np.ndarray, " w"], n: int) -> Int[np.ndarray, " s"]:
    """Where ``n`` known words in a row begin."""
    if len(ids) < n:
        return np.empty(0, np.int64)
    known = np.concatenate([[0], np.cumsum(ids > 0)])
    return np.flatnonzero(known[n:] - known[:-n] == n)
