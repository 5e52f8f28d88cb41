"""`strata table`: the table and figure of what is finished; cells of unfinished runs say so."""

import shlex
import sys
from typing import Any

from strata.experiments.console.app import app
from strata.experiments.declared import declare_absent
from strata.experiments.planning.plan import make_plan
from strata.experiments.reporting.report import write_report
from strata.experiments.runner import say
from strata.experiments.session import open_store, report_folder
from strata.experiments.settings.places import check_runs


@app("run")
def main(config: dict[str, Any]) -> None:
    """Collect, write, print."""
    check_runs(config)
    config = declare_absent(config)
    plan, store = make_plan(config), open_store(config)
    folder = report_folder(plan, config)
    tables = write_report(plan, store, config, folder)
    missing = sum(not store.done(stage) for stage in plan.stages)
    if missing:
        again = shlex.join(["strata", "run", *sys.argv[1:]])
        say(f"{missing} of {len(plan.stages)} stages are not run yet: {again}")
    print("\n" + "\n".join(table.markdown() for table in tables))
    print(f"table   {folder / 'table.md'}\nfigure  {folder / 'figure.png'}\nreport  {folder / 'report.html'}")
