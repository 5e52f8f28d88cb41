"""Which clusters get exemplars, in what order, until the budget of items or bytes is used up."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from strata.curation.atlas.exemplars import Exemplars
from strata.curation.atlas.items import Items
from strata.curation.atlas.nodes import LevelCounts, LevelNodes

LOSERS = 12  # clusters with the largest loss told per level
DROPPED, KEPT = 8, 4  # rows shown of each
CHUNK = 256  # rows read at a time, in their order in the pool


@dataclass(frozen=True)
class Request:
    """Groups of rows wanted at a place of the page: ("node" or "first", level, node) or ("loser", level, rank)."""

    place: tuple[str, int, int]
    groups: Sequence[Sequence[int]]


def losers(counts: LevelCounts) -> Int[np.ndarray, " m"]:
    """At most ``LOSERS`` clusters that lost rows, most first (lowest id on ties)."""
    order = np.argsort(-counts.lost, kind="stable")[:LOSERS]
    return order[counts.lost[order] > 0]


def by_interest(counts: LevelCounts, ids: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """Positions of nodes: those of the most rows and of the largest loss, in turn."""
    mass, loss = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
    mass[np.argsort(-counts.before[ids], kind="stable")] = np.arange(len(ids))
    loss[np.argsort(-counts.lost[ids], kind="stable")] = np.arange(len(ids))
    return np.lexsort((mass, np.minimum(mass, loss)))


def requests(
    exemplars: Exemplars,
    levels: Sequence[LevelCounts],
    nodes: Sequence[LevelNodes],
    copies: Int[np.ndarray, " n"],
    max_items: int,
) -> Iterator[Request]:
    """What to show, most wanted first: what was dropped, the upper levels, one row of many leaves, then the leaves.

    The upper levels ask for at most two fifths of ``max_items`` rows, and the single rows of leaves for one fifth.
    """
    for level in range(len(levels), 0, -1):
        for rank, cluster in enumerate(losers(levels[level - 1]).tolist()):
            rows = exemplars.rows_of(level, cluster)
            dropped = exemplars.random(rows[copies[rows] == 0], DROPPED, level, cluster, 1)
            kept = exemplars.random(rows[copies[rows] > 0], KEPT, level, cluster, 2)
            yield Request(("loser", level, rank), (dropped, kept))
    asked = 0
    for level in range(len(levels), 1, -1):
        ids = nodes[level - 1].ids
        for place in by_interest(levels[level - 1], ids).tolist():
            if asked >= 2 * max_items // 5:
                break
            request = Request(("node", level, place), exemplars.of(level, int(ids[place])))
            asked += sum(map(len, request.groups))
            yield request
    ids = nodes[0].ids
    order = by_interest(levels[0], ids).tolist()
    for place in order[: max_items // 5]:
        yield Request(("first", 1, place), (exemplars.first(1, int(ids[place])),))
    for place in order:
        yield Request(("node", 1, place), exemplars.of(1, int(ids[place])))


def gather(wanted: Iterator[Request], items: Items, max_items: int, max_bytes: int) -> tuple[list[Any], dict[str, Any]]:
    """Entries of the rows that fit, each once, and the groups of entries of each place.

    Stops at the first request that would take more than ``max_items`` entries or ``max_bytes`` of JSON.

    Returns:
        entries, see ``Items.entry``; {"node": {level: {node: groups}}, "first": ..., "loser": ...}, groups of
        positions in the entries.
    """
    entries: list[Any] = []
    position: dict[int, int] = {}
    places: dict[str, Any] = {"node": {}, "first": {}, "loser": {}}
    used = 0
    while batch := _next_batch(wanted, position):
        rows = {row for request in batch for group in request.groups for row in group} - position.keys()
        read = {row: items.entry(row) for row in sorted(rows)}
        cost = {row: items.cost(entry) for row, entry in read.items()}
        for request in batch:
            new = [row for group in request.groups for row in group if row not in position]
            used += sum(cost[row] for row in new) + 8 * sum(map(len, request.groups)) + 24
            if used > max_bytes or len(entries) + len(new) > max_items:
                return entries, places
            for row in new:
                position[row] = len(entries)
                entries.append(read[row])
            kind, level, node = request.place
            groups = [[position[row] for row in group] for group in request.groups]
            places[kind].setdefault(str(level), {})[str(node)] = groups
    return entries, places


def _next_batch(wanted: Iterator[Request], known: dict[int, int]) -> list[Request]:
    """Requests for about ``CHUNK`` rows that were not read yet, or the last ones."""
    batch: list[Request] = []
    rows: set[int] = set()
    for request in wanted:
        batch.append(request)
        rows.update(row for row in itertools.chain(*request.groups) if row not in known)
        if len(rows) >= CHUNK:
            break
    return batch
