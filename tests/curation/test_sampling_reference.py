"""Sampling and updating against brute force that is written from the definition alone (REFERENCE.md section 3)."""

import itertools

import numpy as np
import pytest

from strata.curation import Hierarchy

CASES = 1000


def random_case(seed, rows=60, widths=(12, 6, 4, 3)):
    """A tree of one to four levels with empty clusters on any of them, a budget and repeats."""
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(1, 5))
    counts = [int(rng.integers(1, rows)), *(int(rng.integers(1, width + 1)) for width in widths[:depth])]
    assignments = [
        rng.choice(k, items, p=rng.dirichlet(np.full(k, 0.5))) for items, k in zip(counts[:-1], counts[1:], strict=True)
    ]
    distances = [rng.integers(0, 8, len(a)).astype(float) for a in assignments]  # with ties
    repeats = int(rng.integers(1, 4))
    n = int(rng.integers(0, counts[0] * repeats + 1))
    return assignments, distances, repeats, n


class Tree:
    """The same tree as plain Python lists: children of every node, rows below every node."""

    def __init__(self, assignments):
        self.depth = len(assignments)
        self.n = len(assignments[0])
        self.width = [len(a) for a in assignments[1:]] + [max(assignments[-1]) + 1]
        self.children = [
            [[i for i, c in enumerate(a) if c == node] for node in range(width)]
            for a, width in zip(assignments, self.width)
        ]  # children[l][node]: rows if l == 0, else nodes of level l - 1

    def rows(self, level, node):
        below = self.children[level][node]
        return below if level == 0 else [row for child in below for row in self.rows(level - 1, child)]


def share(budget, capacities):
    """(base quotas, remainder, who may get one of it): c* = max c with sum of min(c, a) <= budget, found by trying."""
    if sum(capacities) <= budget:
        return list(capacities), budget - sum(capacities), []
    level = max(c for c in range(budget + 1) if sum(min(c, a) for a in capacities) <= budget)
    base = [min(level, a) for a in capacities]
    return base, budget - sum(base), [i for i, a in enumerate(capacities) if a > level]


def check_shares(quotas, budget, capacities):
    base, remainder, may = share(budget, capacities)
    more = [q - b for q, b in zip(quotas, base)]
    assert sum(quotas) == budget and set(more) <= {0, 1} and sum(more) == remainder
    assert all(i in may for i, extra in enumerate(more) if extra)


def check_leaf(counts, rows, quota, within, distance):
    """counts of the rows of a leaf: all alike, or one more for some: any, or those first by distance, then by row."""
    assert sum(counts) == quota
    if not rows:
        return
    low, extra = divmod(quota, len(rows))
    more = {row for row, count in zip(rows, counts) if count == low + 1}
    assert set(counts) <= {low, low + 1} and len(more) == extra
    if within != "random":
        sign = 1 if within == "closest" else -1
        assert more == set(sorted(rows, key=lambda row: (sign * distance[row], row))[:extra])


@pytest.mark.parametrize("allocation", ["hierarchical", "flat"])
def test_thousand_random_cases(allocation):
    seen_depths, seen_empty = set(), 0
    for seed in range(CASES):
        assignments, distances, repeats, n = random_case(seed)
        h, tree = Hierarchy.from_assignments(assignments, distances=distances), Tree([a.tolist() for a in assignments])
        within = ("random", "closest", "furthest")[seed % 3]
        rows = h.sample(n, allocation, within, repeats, seed)
        assert len(rows) == n and rows.dtype == np.int64 and (np.diff(rows) >= 0).all()
        counts = np.bincount(rows, minlength=h.n).tolist()
        quotas = [q.tolist() for q in h.quotas(n, allocation, repeats, seed)]
        sizes = [[len(tree.rows(level, node)) for node in range(width)] for level, width in enumerate(tree.width)]
        top = tree.depth - 1
        check_shares(quotas[top], n, [repeats * size for size in sizes[top]])
        for level, node in ((level, node) for level, width in enumerate(tree.width) for node in range(width)):
            below = tree.rows(level, node)
            own = [counts[row] for row in below]
            assert sum(own) == quotas[level][node]
            if allocation == "hierarchical" and level > 0:
                children = tree.children[level][node]
                shares = [quotas[level - 1][child] for child in children]
                check_shares(shares, quotas[level][node], [repeats * sizes[level - 1][child] for child in children])
            if allocation == "flat" and level == top:  # alike over all points below, whatever lies between
                check_leaf(own, below, quotas[level][node], "random", None)
            if level == 0:
                check_leaf(own, below, quotas[0][node], within, distances[0])
        seen_depths.add(tree.depth)
        seen_empty += any(0 in level_sizes for level_sizes in sizes)
    assert seen_depths == {1, 2, 3, 4} and seen_empty > CASES / 10


def leaf_quotas(tree, capacity, level, nodes, budget):
    """Every outcome of hierarchical sharing of a budget among sibling nodes, as {leaf: quota}."""
    base, remainder, may = share(budget, [capacity(level, node) for node in nodes])
    for winners in itertools.combinations(may, remainder):
        quotas = [b + (i in winners) for i, b in enumerate(base)]
        if level == 0:
            yield dict(zip(nodes, quotas))
            continue
        parts = [
            list(leaf_quotas(tree, capacity, level - 1, tree.children[level][node], quota))
            for node, quota in zip(nodes, quotas)
        ]
        for combination in itertools.product(*parts):
            yield {leaf: quota for part in combination for leaf, quota in part.items()}


def best_kept(rows, quota, old):
    """Most old rows that a leaf (or flat subtree) can keep, over every way to give some rows one more."""
    if not rows:
        return 0
    low, extra = divmod(quota, len(rows))
    return max(sum(min(old[row], low + (row in more)) for row in rows) for more in itertools.combinations(rows, extra))


def optimum(tree, n, repeats, old, allocation):
    top = tree.depth - 1
    nodes = list(range(tree.width[top]))
    if allocation == "flat":
        base, remainder, may = share(n, [repeats * len(tree.rows(top, node)) for node in nodes])
        outcomes = [
            {node: base[node] + (node in winners) for node in nodes}
            for winners in itertools.combinations(may, remainder)
        ]
        holding = top
    else:
        outcomes = leaf_quotas(tree, lambda level, node: repeats * len(tree.rows(level, node)), top, nodes, n)
        holding = 0
    cache = {}

    def kept(node, quota):
        if (node, quota) not in cache:
            cache[node, quota] = best_kept(tree.rows(holding, node), quota, old)
        return cache[node, quota]

    return max(sum(kept(node, quota) for node, quota in outcome.items()) for outcome in outcomes)


@pytest.mark.parametrize("allocation", ["hierarchical", "flat"])
def test_update_keeps_as_much_as_any_choice_could(allocation):
    drops = 0
    for seed in range(300):
        assignments, distances, repeats, n = random_case(seed, rows=12, widths=(5, 3, 2, 2))
        rng = np.random.default_rng(seed)
        grown = [np.concatenate([assignments[0], rng.integers(0, max(assignments[0]) + 1, 4)]), *assignments[1:]]
        distances[0] = np.concatenate([distances[0], rng.random(4)])
        before = Hierarchy.from_assignments(assignments).sample(n, max_repeats=repeats, random_state=seed)
        if seed % 4 == 0:  # a selection made in another way
            before = rng.integers(0, len(assignments[0]), n)
        h, tree = Hierarchy.from_assignments(grown, distances=distances), Tree([list(map(int, a)) for a in grown])
        wanted = n if seed % 3 else int(rng.integers(0, h.n * repeats + 1))
        within = ("random", "closest", "furthest")[seed % 3]
        update = h.update(before, wanted, allocation, within, repeats, seed)
        old, new = (np.bincount(rows, minlength=h.n) for rows in (before, update.rows))
        assert sorted(update.kept.tolist() + update.dropped.tolist()) == sorted(before.tolist())
        assert sorted(update.kept.tolist() + update.added.tolist()) == update.rows.tolist()
        assert not set(update.dropped) & set(update.added) and len(update.rows) == wanted
        assert len(update.kept) == optimum(tree, wanted, repeats, old.tolist(), allocation)
        check_as_sampled(tree, new.tolist(), wanted, repeats, allocation)
        drops += len(update.dropped) > 0 and len(update.added) > 0
    assert drops > 100


def check_as_sampled(tree, counts, n, repeats, allocation):
    """The counts are ones that sample() could have given, but for which rows of a leaf they are."""
    top = tree.depth - 1

    def visit(level, nodes, budget):
        below = [tree.rows(level, node) for node in nodes]
        own = [sum(counts[row] for row in rows) for rows in below]
        check_shares(own, budget, [repeats * len(rows) for rows in below])
        for node, rows, quota in zip(nodes, below, own):
            if level == 0 or allocation == "flat":
                check_leaf([counts[row] for row in rows], rows, quota, "random", None)
            else:
                visit(level - 1, tree.children[level][node], quota)

    visit(top, list(range(tree.width[top])), n)
