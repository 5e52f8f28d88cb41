"""One self-contained HTML page of an experiment: table, figure, curves, what each arm trained on, lineage, environment."""

import base64
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from strata.curation.artifact import read_manifest
from strata.experiments.comparison.table import Table
from strata.experiments.planning.plan import Plan
from strata.experiments.reporting.curves import draw_curves
from strata.experiments.reporting.samples import Strip, strips
from strata.experiments.store import Store

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #d8dee4; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; display: block; }
table { overflow-x: auto; } th { background: #f6f8fa; } img.wide { max-width: 100%; } code, pre { font-size: 13px; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid #e6eaee; white-space: nowrap; }
th:first-child, td:first-child, .words { text-align: left; } td.words { white-space: normal; min-width: 11rem; }
 pre { overflow-x: auto; background: #f6f8fa; padding: .6rem; }
.strip { margin: .2rem 0 .8rem; } .strip p { margin: .1rem 0; } .note { color: #57606a; }
.strip img { width: 64px; height: 64px; object-fit: cover; margin: 1px; }
.text { display: inline-block; width: 230px; margin: 2px; padding: 4px; font-size: 12px; vertical-align: top; }
.text { background: #f6f8fa; }
@media (prefers-color-scheme: dark) { body { background: #0d1117; color: #e6edf3; }
  th, pre, .text { background: #161b22; } th, td, h2 { border-color: #30363d; }
  .note { color: #9198a1; } img.wide { background: #fff; } }
"""


def write_html(
    plan: Plan,
    store: Store,
    config: Mapping[str, Any],
    tables: Sequence[Table],
    provenance: str,
    folder: Path,
    maps: Sequence[str] = (),
) -> Path:
    """Write ``report.html`` beside the table and figure that are there already. Nothing in it is fetched from elsewhere.

    Args:
        plan: of the experiment.
        store: what of it is finished is shown; the rest is left out and said to be.
        config: the experiment's settings.
        tables: as in table.md.
        provenance: the paragraph under them.
        folder: the experiment's.
        maps: arms that have a picture in ``folder/maps``.
    """
    parts = [f"<h1>{_text(plan.name)}</h1>", f"<p class=note>{_text(provenance)}</p>"]
    claims = [table for table in tables if table.columns[0] == "claim"]  # what came out, before how
    parts += [_table(table) for table in [*tables[:1], *claims, *(t for t in tables[1:] if t not in claims)]]
    parts += ["<h2>Figure</h2>", _picture((folder / "figure.png").read_bytes(), "the figure of the experiment")]
    curves = draw_curves(plan, store)
    if curves:
        parts += ["<h2>Training</h2>", _picture(curves, "training curves of every arm"), _CURVES]
    shown = [_strip(strip) for strip in strips(plan, store)]
    if shown:
        parts += ["<h2>What each arm trained on</h2>", *shown]
    if maps:
        parts.append("<h2>On the map: what each arm kept and dropped</h2>")
        for arm in maps:
            picture = (folder / "maps" / f"{arm}.png").read_bytes()
            parts += [f"<p><b>{_text(arm)}</b></p>", _picture(picture, f"tiles kept and dropped by {arm}")]
    parts += ["<h2>Lineage</h2>", _lineage(plan, store), "<h2>Environment</h2>", _environment(plan, store)]
    settings = yaml.safe_dump(json.loads(json.dumps(config, default=str)), sort_keys=False)
    parts += ["<details><summary>Settings</summary><pre>", _text(settings), "</pre></details>"]
    page = "\n".join(["<!doctype html><html lang=en><head><meta charset=utf-8>", f"<title>{_text(plan.name)}</title>"])
    page += f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    temporary = folder / "report.html.tmp"
    temporary.write_text(page)
    temporary.replace(folder / "report.html")
    return folder / "report.html"


_CURVES = (
    "<p class=note>A line per arm is the mean over seeds; the band reaches from the least to the largest seed.</p>"
)


def _table(table: Table) -> str:
    words = [any(len(row[i]) > 26 for row in table.rows) for i in range(len(table.columns))]
    head, *rows = (
        _row(cells, words, tag) for cells, tag in [(table.columns, "th"), *((row, "td") for row in table.rows)]
    )
    notes = "".join(f"<p class=note>{_text(note)}</p>" for note in table.notes)
    return f"<h2>{_text(table.title)}</h2><table>{head}{''.join(rows)}</table>{notes}"


def _row(cells: Sequence[str], words: Sequence[bool], tag: str) -> str:
    """Columns of words stand left, and their cells wrap; numbers do not."""
    told = (f"<{tag}{' class=words' * wordy}>{_text(cell)}</{tag}>" for cell, wordy in zip(cells, words, strict=True))
    return f"<tr>{''.join(told)}</tr>"


def _strip(strip: Strip) -> str:
    items = "".join(
        f"<img alt='' loading=lazy src='data:image/webp;base64,{content}'>"
        if kind == "image"
        else f"<span class=text>{_text(content)}</span>"
        for kind, content in strip.items
    )
    return (
        f"<div class=strip><p><b>{_text(strip.title)}</b> <span class=note>{_text(strip.note)}</span></p>{items}</div>"
    )


def _lineage(plan: Plan, store: Store) -> str:
    rows = []
    for stage in plan.stages:
        run = store.provenance(stage) if store.done(stage) else {}
        inputs = ", ".join(f"{role} {needed.key[:8]}" for role, needed in stage.inputs.items())
        seconds = f"{run['seconds']:.1f}" if run.get("seconds") is not None else "" if run else "not run"
        rows.append([stage.kind, stage.label, stage.key, inputs, seconds, str(run.get("commit", ""))])
    heads = ["kind", "label", "key", "inputs", "seconds", "commit"]
    table = _table(Table("", heads, rows, [])).replace("<h2></h2>", "")
    return (
        f"<details><summary>{len(rows)} stages; `strata why KEY` prints the chain behind one</summary>{table}</details>"
    )


def _environment(plan: Plan, store: Store) -> str:
    found = sorted({line for line in _versions(plan, store)})
    return f"<p>{_text('; '.join(found)) or 'Nothing was run yet.'}</p>"


def _versions(plan: Plan, store: Store) -> Iterator[str]:
    for stage in plan.stages:
        if store.done(stage):
            manifest = read_manifest(store.path(stage))
            yield ", ".join(f"{name} {version}" for name, version in sorted(manifest.get("versions", {}).items()))


def _picture(data: bytes, what: str) -> str:
    return f"<img class=wide alt='{_text(what)}' src='data:image/png;base64,{base64.b64encode(data).decode()}'>"


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
