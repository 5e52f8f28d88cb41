"""Write an experiment's folder: values.csv, table.md/.csv/.tex, figure.png, report.html, config.yaml, stages.json, run.json;
of pools with places on earth also maps of what was kept."""

import csv
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from strata.curation.artifact import write_json
from strata.experiments.comparison.beside_paper import beside_paper
from strata.experiments.comparison.claims import claims_table, judge, left_out
from strata.experiments.comparison.columns import shown_columns
from strata.experiments.comparison.measured_results import collect_measures, measured_tables
from strata.experiments.comparison.results import collect
from strata.experiments.comparison.spread import spread_table
from strata.experiments.comparison.table import Table, build_tables
from strata.experiments.comparison.values import write_values
from strata.experiments.planning.cell_costs import CellCosts
from strata.experiments.planning.cost import predictor
from strata.experiments.planning.plan import Plan
from strata.experiments.reporting.figure import draw
from strata.experiments.reporting.html_report import write_html
from strata.experiments.reporting.maps import write_maps
from strata.experiments.reporting.measured_figures import draw_measured
from strata.experiments.runner import clock
from strata.experiments.stage import Stage, unique
from strata.experiments.store import Store
from strata.experiments.text.figure import draw_text
from strata.experiments.text.results import collect_text
from strata.experiments.text.tables import text_tables


def write_report(plan: Plan, store: Store, config: Mapping[str, Any], folder: Path) -> list[Table]:
    """Everything people look at, from what is finished in the store.

    Returns:
        The tables, main one first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = config["ssl"] is not None
    text = config.get("domain") == "text"
    missing, costs = not_run(plan, store), CellCosts(plan, store)
    if text:
        values = collect_text(plan, store)
        tables = text_tables(values, config, missing)
    elif trained:
        values = collect(plan, store)
        columns, controls = shown_columns(values, config), config["table"]["controls"]
        tables = build_tables(plan.name, values, config["arms"], controls, columns, missing, costs.cell)
    else:
        values = collect_measures(plan, store)
        tables = measured_tables(values, config, missing, costs.cell)
    tables += spread_table(values, config) or beside_paper(values, config, costs)
    if verdicts := judge(values, config, costs):
        tables.append(claims_table(plan.name, verdicts, left_out(config)))
    write_values(values, folder / "values.csv")
    (folder / "table.md").write_text("\n".join(table.markdown() for table in tables) + "\n" + provenance(plan, store))
    (folder / "table.tex").write_text("\n".join(table.latex() for table in tables))
    with open(folder / "table.csv", "w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for table in tables:
            writer.writerow([table.title])
            writer.writerows([table.columns, *table.rows])
    if text:
        draw_text(values, config, folder / "figure.png")
    elif trained:
        draw(plan.name, plan, store, values, columns, folder / "figure.png")
    else:
        draw_measured(plan, store, values, config, folder / "figure.png")
    maps = [] if text else write_maps(plan, store, folder)
    write_json(folder / "run.json", {"command": os.environ.get("STRATA_COMMAND", " ".join(sys.argv))})
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))))
    rows = ",\n".join(json.dumps(_row(stage, store)) for stage in plan.stages)  # a stage a line
    (folder / "stages.json").write_text(f"[\n{rows}\n]\n")
    write_html(plan, store, config, tables, provenance(plan, store), folder, maps)
    return tables


def not_run(plan: Plan, store: Store) -> list[str]:
    """One line with what each arm's unfinished stages are predicted to cost; none if all are finished."""
    missing: dict[str, list[Stage]] = {}
    for run in plan.runs:
        stages = unique(run.scores.values() or [run.pretrain or run.sample])
        missing.setdefault(run.arm, []).extend(stage for stage in stages if not store.done(stage))
    predict = predictor(store)
    seconds = {arm: sum(predict(stage)[0] for stage in unique(todo)) for arm, todo in missing.items() if todo}
    if not seconds:
        return []
    said = ", ".join(f"{arm} {clock(left)}" for arm, left in seconds.items())
    return [f"Not run yet, in stage time (stages that arms share count in each): {said}."]


def provenance(plan: Plan, store: Store) -> str:
    """One paragraph: seeds, commits, machine, time, and the command that made the stages."""
    runs = [store.provenance(stage) for stage in plan.stages if store.done(stage)]
    runs = [run for run in runs if run]
    if not runs:
        return "Nothing was run yet.\n"

    def said(field: str) -> str:
        return "; ".join(sorted({str(run[field]) for run in runs}))

    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in plan.runs}))
    hours = sum(run["seconds"] or 0.0 for run in runs) / 3600
    return (
        f"Seeds {seeds}. {len(runs)} of {len(plan.stages)} stages, {hours:.2f} h of stage time, "
        f"{said('threads')} thread(s) each. "
        f"Machine: {said('machine')}. Code: {said('commit')}. Command: `{said('command')}`.\n"
    )


def _row(stage: Stage, store: Store) -> dict[str, Any]:
    inputs = {role: needed.key for role, needed in stage.inputs.items()}
    return {"kind": stage.kind, "key": stage.key, "label": stage.label, "inputs": inputs, "done": store.done(stage)}
