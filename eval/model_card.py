"""The section of a model card that says how a backbone scores: every number, its interval, and how it was made."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from strata.curation.artifact import read_manifest
from strata.eval.scores import Score, read_scores

# Metrics that are no shares: printed as they are.
PLAIN = ("rmse", "mae", "abs_rel", "r2", "rankme", "alpha_req", "alpha", "lidar", "effective_rank", "cross_entropy")
HEAD = "| benchmark | protocol | metric | value | 95 % interval | n |"


@dataclass(frozen=True)
class Scored:
    """The scores of one protocol on one benchmark, the manifest of their folder, and the folder."""

    scores: list[Score]
    manifest: Mapping[str, Any]
    folder: Path

    @classmethod
    def read(cls, folder: str | Path) -> "Scored":
        """Read a scores folder. Raises a DataError if it is none."""
        return cls(read_scores(folder), read_manifest(folder, "scores"), Path(folder))


def model_card(label: str, scored: Sequence[Scored], means: Sequence[Score] = (), command: str = "") -> dict[str, Any]:
    """Everything about a backbone's scores; JSON-able.

    Args:
        label: what the card calls the backbone.
        scored: all of one backbone.
        means: scores over several benchmarks.
        command: that made them.

    Returns:
        ``backbone`` (name, key, digest of the weights, transform, what was read), ``scores`` (records as in scores.json,
        with the key of their folder), ``data`` (of each benchmark's split: pool, n, fingerprint), ``protocols`` (id,
        version, options), ``versions`` of the libraries, ``command``.
    """
    records = [asdict(score) | {"key": one.manifest["key"]} for one in scored for score in one.scores]
    return {
        "label": label,
        "backbone": scored[0].manifest["backbone"] if scored else {},
        "scores": records + [asdict(score) for score in means],
        "data": {
            one.manifest["benchmark"]: {
                split: {name: about.get(name) for name in ("n", "fingerprint", "pool")}
                for split, about in one.manifest["splits"].items()
            }
            for one in scored
        },
        "protocols": {
            f"{one.manifest['protocol']['id']}-v{one.manifest['protocol']['version']}": one.manifest["protocol"][
                "options"
            ]
            for one in scored
        },
        "versions": scored[0].manifest["versions"] if scored else {},
        "command": command,
    }


def card_markdown(card: Mapping[str, Any], shown: Sequence[Mapping[str, Any]] | None = None) -> str:
    """The card as Markdown.

    Args:
        card: from ``model_card``.
        shown: the records to print; default: all.
    """
    backbone = card["backbone"]
    transform = backbone.get("transform") or {}
    records = card["scores"] if shown is None else shown
    size = " x ".join(str(side) for side in transform.get("size", [])) or "?"
    lines = [
        f"## Evaluation: {card['label']}",
        "",
        f"Frozen backbone `{backbone.get('name', '?')}`, weights `{str(backbone.get('weights_sha256', '?'))[:16]}`.",
        f"Images of {size} px, read by {backbone.get('reads', '?')}: {backbone.get('n_blocks', '?')} blocks of width "
        f"{backbone.get('dim', '?')}.",
        "",
        HEAD,
        "|---|---|---|---|---|---|",
        *[_line(record) for record in records],
        "",
        "Intervals are over test images; they know nothing of the noise between training seeds. Shares are in %.",
        f"Libraries: {', '.join(f'{name} {version}' for name, version in card['versions'].items())}.",
    ]
    if card["command"]:
        lines += ["", f"Made by `{card['command']}`."]
    return "\n".join(lines) + "\n"


def as_text(metric: str, value: float) -> str:
    """A value as tables print it: shares in %, other metrics as they are."""
    return f"{value:.4g}" if plain(metric) else f"{100 * value:.1f}"


def plain(metric: str) -> bool:
    """Whether a metric is no share."""
    return metric.split("/")[0].startswith(PLAIN)


def _line(record: Mapping[str, Any]) -> str:
    metric = record["metric"]
    interval = f"{as_text(metric, record['ci_low'])} to {as_text(metric, record['ci_high'])}"
    cells = (record["benchmark"], f"{record['protocol']}-v{record['version']}", metric)
    return f"| {' | '.join(cells)} | {as_text(metric, record['value'])} | {interval} | {record['n']} |"
