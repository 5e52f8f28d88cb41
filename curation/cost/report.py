"""The plan of a clustering as text."""

from strata.curation.cost.amounts import duration, size
from strata.curation.cost.fit import LevelCost, Phase, cost_of_sampling, peak_memory, total_seconds
from strata.curation.cost.splits import Proposal
from strata.curation.cost.work import Rates


def describe(
    levels: list[LevelCost],
    worst: list[LevelCost],
    rates: Rates,
    *,
    d: int,
    threads: int = 1,
    devices: int = 1,
    memory: float,
    better: list[Proposal],
) -> str:
    """A table of levels and phases; then totals, whether the memory is enough, chunk sizes, and when to split.

    Args:
        levels, worst: of ``cost_of_fit``, expected and at most.
        memory: bytes that one device (machine) may use.
        better: of ``splits.proposals``.
    """
    lines = [f"{'level':<34}{'phase':<16}{'FLOP':>9}{'memory':>10}{'time':>10}{'at most':>10}"]

    def row(name: str, phase: Phase, slowest: Phase) -> str:
        times = [duration(p.seconds(rates, threads, devices)) for p in (phase, slowest)]
        flop = f"{phase.work.flop:.1e}" if phase.work.flop else "-"
        return f"{name:<34}{phase.name:<16}{flop:>9}{size(phase.memory):>10}{times[0]:>10}{times[1]:>10}"

    for number, (level, slow) in enumerate(zip(levels, worst, strict=True), 1):
        made = f"{level.clusters:,}" + (f" = {level.k:,} x {level.splits}" if level.splits > 1 else "")
        for index, (phase, slowest) in enumerate(zip(level.phases, slow.phases, strict=True)):
            name = {0: f"{number}: {level.n:,} rows", 1: f"   in {made}"}.get(index, "")
            lines.append(row(name, phase, slowest))
    draw = cost_of_sampling(levels)
    lines.append(row("subset", draw, draw))
    time, longest = (total_seconds(some, rates, threads, devices) for some in (levels, worst))
    flop, peak = sum(phase.work.flop for level in levels for phase in level.phases), peak_memory(levels, devices)
    lines.append(f"total: {flop:.1e} FLOP, {duration(time)} expected, {duration(longest)} at most; peak {size(peak)}")
    lines.append(f"modelled: {d} features, {threads} thread(s), {devices} device(s)" + _ideal(devices))
    lines.append(_verdict(peak, memory))
    for number, level in enumerate(levels, 1):
        lines.append(f"level {number}: {_chunks(level)}")
    lines += [_proposed(item) for item in better] or [
        "split: no level would be 1.5 times as fast in two steps, or other ones"
    ]
    return "\n".join(lines)


def _ideal(devices: int) -> str:
    return ", rows shared evenly and nothing lost between them" if devices > 1 else ""


def _verdict(peak: float, memory: float) -> str:
    if peak <= memory:
        return f"memory: {size(peak)} of {size(memory)}: it fits"
    return f"memory: {size(peak)} of {size(memory)}: it does NOT fit"


def _chunks(level: LevelCost) -> str:
    chunks = level.chunks
    rows = "all centered rows stay in memory" if chunks.cached else "every pass reads and centers the rows again"
    seeds = f", {chunks.batch} candidates of k-means++ at once" if chunks.batch else ""
    tiles = f"tiles of {chunks.tile[0]:,} x {chunks.tile[1]:,} distances"
    return f"{level.algorithm}; blocks of {chunks.block:,} rows, {tiles}{seeds}; {rows}"


def _proposed(item: Proposal) -> str:
    settings = f"n_clusters {item.k:,}, n_splits {item.splits}"
    return f"split: level {item.level} as {settings}: {duration(item.after)} instead of {duration(item.before)}"
