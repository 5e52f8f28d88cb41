"""Which metadata entries each item matches: its tags, or words of its text."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from strata.curation.errors import ConfigError


@dataclass(frozen=True)
class Matches:
    """Pairs (item, entry), each once, by item."""

    item: Int[np.ndarray, " m"]
    entry: Int[np.ndarray, " m"]
    n_entries: int


def match_labels(labels: Int[np.ndarray, " n"]) -> Matches:
    """Every label is the one entry of its item; -1 matches nothing."""
    item = np.flatnonzero(labels >= 0)
    entry = np.asarray(labels, np.int64)[item]
    return Matches(item, entry, int(entry.max(initial=-1)) + 1)


def match_tags(metadata: Iterable[Any]) -> Matches:
    """Every different value is an entry. An item has one (a text or a whole number) or a list of them.

    None, an empty text, NaN and -1 (how pools give a missing number) match nothing.

    Raises:
        ConfigError: a value that is none of these.
    """
    known: dict[Any, int] = {}
    pairs = (
        (item, known.setdefault(tag, len(known))) for item, value in enumerate(metadata) for tag in sorted(_tags(value))
    )
    return _as_matches(pairs, known)


def match_words(metadata: Iterable[Any], entries: Sequence[str]) -> Matches:
    """An item matches each entry whose words follow each other in its text, in any case (MetaCLIP's substring matching).

    Raises:
        ConfigError: no entries, one without a word or given twice, or an item that is not text.
    """
    wanted: dict[tuple[str, ...], int] = {}
    for entry in entries:
        words = _words(entry)
        if not words or words in wanted:
            raise ConfigError("sampler.entries", f"{entry!r} has no word, or is there twice", "give each entry once")
        wanted[words] = len(wanted)
    if not wanted:
        raise ConfigError("sampler.entries", "there are none", "give at least one, or null for one entry per tag")
    lengths = sorted({len(words) for words in wanted})

    def found(text: Any) -> set[int]:
        if text is None:
            return set()
        if not isinstance(text, str):
            raise ConfigError("sampler.column", f"{text!r} is no text to find entries in", "name a column of texts")
        words = _words(text)
        runs = (words[start : start + size] for size in lengths for start in range(len(words) - size + 1))
        return {wanted[run] for run in runs if run in wanted}

    pairs = ((item, entry) for item, text in enumerate(metadata) for entry in sorted(found(text)))
    return _as_matches(pairs, wanted)


def _as_matches(pairs: Iterable[tuple[int, int]], entries: dict[Any, int]) -> Matches:
    table = np.array(list(pairs), np.int64).reshape(-1, 2)  # the pairs are read first: they fill ``entries``
    return Matches(table[:, 0], table[:, 1], len(entries))


def _tags(value: Any) -> set[Any]:
    if isinstance(value, list | tuple | set | np.ndarray):
        return {tag for part in value for tag in _tags(part)}
    if value is None or value == "" or (isinstance(value, float | np.floating) and np.isnan(value)):
        return set()
    if isinstance(value, int | np.integer):
        return {int(value)} if value != -1 else set()
    if isinstance(value, str):
        return {value}
    raise ConfigError(
        "sampler.column", f"{value!r} is no tag", "name a column of texts, whole numbers or lists of them"
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.casefold()))
