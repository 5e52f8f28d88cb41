"""What `strata eval` writes: one table over all backbones, all scores as records, and a model card for each backbone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strata.curation.artifact import write_json
from strata.eval.bootstrap import paired_bootstrap, statistic_of
from strata.eval.means import mean_over_sets
from strata.eval.model_card import Scored, as_text, card_markdown, model_card
from strata.eval.scores import Score, read_predictions
from strata.experiments.comparison.table import Table
from strata.experiments.planning.plan_eval import open_benchmark

# Protocol -> how the names of its metrics begin that tables print beside the benchmark's own.
MORE = {
    "transfer": ("top1_",),
    "fairness": ("gap_",),
    "fewshot": ("top1_",),
    "longtail": ("head", "tail"),
    "health": ("rankme", "alpha_req"),
}

Found = Mapping[str, Mapping[tuple[str, str], Scored]]  # label -> (benchmark, protocol) -> scores


def write_eval_report(found: Found, config: Mapping[str, Any], folder: Path, command: str) -> str:
    """Write ``table.md``, ``scores.json`` and ``model_card_LABEL.{md,json}``.

    Args:
        found: scores of every backbone, on the same benchmarks by the same protocols.
        config: of the command.
        folder: made if it is not there.
        command: for the record.

    Returns:
        The table as text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    means = {label: _means(scored, config) for label, scored in found.items()}
    table = comparison(found, means, config).markdown()
    (folder / "table.md").write_text(table + (f"\nMade by `{command}`.\n" if command else ""))
    cards = {label: model_card(label, list(scored.values()), means[label], command) for label, scored in found.items()}
    for label, card in cards.items():
        name = re.sub(r"[^\w.-]+", "_", label)
        write_json(folder / f"model_card_{name}.json", card)
        (folder / f"model_card_{name}.md").write_text(card_markdown(card))
    write_json(
        folder / "scores.json", [{"backbone": label, **score} for label in cards for score in cards[label]["scores"]]
    )
    return table


def comparison(found: Found, means: Mapping[str, list[Score]], config: Mapping[str, Any]) -> Table:
    """Benchmarks x protocols down, backbones across; with each value its 95 % interval.

    Each backbone but the last is compared with the last: difference on the same test images, by paired bootstrap.
    """
    labels = list(found)
    *others, reference = labels
    rows = []
    for name, protocol in next(iter(found.values())):
        scores = {label: {score.metric: score for score in found[label][name, protocol].scores} for label in labels}
        for metric in shown(list(scores[labels[0]].values()), open_benchmark(config["benchmarks"][name], name).metric):
            first = scores[labels[0]][metric]
            cells = [_cell(scores[label].get(metric)) for label in labels]
            against = found[reference][name, protocol]
            cells += [_difference(found[label][name, protocol], against, metric) for label in others]
            rows.append([name, f"{first.protocol}-v{first.version}", metric, str(first.n), *cells])
    for i, mean in enumerate(means[labels[0]]):
        name, number = f"{mean.protocol}-v{mean.version}", str(mean.n)
        cells = [_cell(means[label][i]) for label in labels]
        rows.append([mean.benchmark, name, mean.metric, number, *cells, *["–" for _ in others]])
    notes = [
        "Value and 95 % interval over test images. Shares are in %; errors and ranks as they are.",
        "All scores, settings and data are in the model cards beside this table.",
    ]
    if others:
        notes.insert(
            1,
            f"Differences to {reference} are of the same test images (paired bootstrap); * = the interval excludes 0.",
        )
    heads = ["benchmark", "protocol", "metric", "n", *labels, *[f"{label} - {reference}" for label in others]]
    return Table("Frozen backbones", heads, rows, notes)


def _difference(a: Scored, b: Scored, metric: str) -> str:
    """a - b with its interval; "–" where the metric does not come from the predictions alone."""
    pair = [next((score for score in one.scores if score.metric == metric), None) for one in (a, b)]
    if pair[0] is None or pair[1] is None or not pair[0].statistic or pair[0].statistic != pair[1].statistic:
        return "–"
    of_a, of_b = (statistic_of(read_predictions(one.folder), pair[0].statistic) for one in (a, b))
    found = paired_bootstrap(of_a, of_b)
    value, low, high = (as_text(metric, number) for number in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]{'' if found.low <= 0 <= found.high else '*'}"


def shown(scores: list[Score], headline: str) -> list[str]:
    """The metrics that tables print: the benchmark's own, and what the protocol is for. The rest is in the cards."""
    metrics = [score.metric for score in scores]
    begins = MORE.get(scores[0].protocol, ())
    found = [metric for metric in metrics if metric == headline or metric.startswith(begins)] if begins else []
    return found or ([headline] if headline in metrics else metrics[:1])


def _means(scored: Mapping[tuple[str, str], Scored], config: Mapping[str, Any]) -> list[Score]:
    """For every list of sets and every protocol that scored all of them, or each of them by the protocol of its task."""
    found = []
    for name, sets in config["means"].items():
        by_protocol: dict[str, list[Score]] = {}
        alone: list[Score] = []
        for benchmark in sets:
            headline = open_benchmark(config["benchmarks"][benchmark], benchmark).metric
            here = {protocol: one for (where, protocol), one in scored.items() if where == benchmark}
            picked = {protocol: _pick(one.scores, headline) for protocol, one in here.items()}
            if len(picked) == 1:
                alone += list(picked.values())
            for protocol, score in picked.items():
                by_protocol.setdefault(protocol, []).append(score)
        for scores in by_protocol.values():
            sets_of = {score.benchmark for score in scores}
            whole = scores + [score for score in alone if score.benchmark not in sets_of]
            if len(scores) > 1 and len(whole) == len(sets):
                found.append(mean_over_sets(name, whole))
    return found


def _pick(scores: list[Score], headline: str) -> Score:
    return next((score for score in scores if score.metric == headline), scores[0])


def _cell(score: Score | None) -> str:
    if score is None:
        return "not run"
    low, high = as_text(score.metric, score.ci_low), as_text(score.metric, score.ci_high)
    return f"{as_text(score.metric, score.value)} [{low}, {high}]"
