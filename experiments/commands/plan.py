"""`strata plan`: the stages of an experiment, what is cached, and what the rest will cost. Writes nothing."""

from typing import Any

from strata.experiments.console.app import app
from strata.experiments.declared import declare_absent
from strata.experiments.planning.cost import predictor
from strata.experiments.planning.plan import iter_kinds, make_plan
from strata.experiments.runner import clock
from strata.experiments.session import open_store, worker_count


@app("run")
def main(config: dict[str, Any]) -> None:
    """Print one line per kind of stage, or per stage with ``list=true``."""
    config = declare_absent(config)
    plan, store = make_plan(config), open_store(config)
    workers = max(1, worker_count(config))
    stages = plan.stages
    print(
        f"{plan.name}: {len(config['arms'])} arms x {len(config['seeds'])} seeds = {len(stages)} stages in {store.root}"
    )
    print(f"{'stage':<13}{'total':>6}{'cached':>8}{'started':>9}{'to run':>8}{'time':>11}{'memory':>14}  rate")
    predict = predictor(store, calibrate=True)
    left = 0.0
    for kind, group in iter_kinds(stages):
        todo = [stage for stage in group if not store.done(stage)]
        predicted = [predict(stage) for stage in todo]
        seconds = sum(time for time, _ in predicted)
        left += seconds
        rate = "" if not todo else "measured here" if all(measured for _, measured in predicted) else "built in"
        started = sum(store.started(stage) for stage in todo)
        memory = max((stage.memory for stage in todo), default=0.0) / 2**20
        print(
            f"{kind:<13}{len(group):>6}{len(group) - len(todo):>8}{started:>9}{len(todo):>8}"
            f"{clock(seconds):>11}{memory:>11,.0f} MB  {rate}"
        )
        if config["list"]:
            for stage in group:
                state = "cached" if store.done(stage) else "started" if store.started(stage) else "to run"
                print(f"    {stage.key}  {state:<8} {clock(predict(stage)[0]):>7}  {stage.label}")
    print(f"predicted: {clock(left)} of stage time, about {clock(left / workers)} with {workers} workers")
    print("memory is the largest working set of data of one stage, without the libraries' own 0.5 GB or so per worker")
