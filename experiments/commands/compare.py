"""`strata compare`: two backbones on what both were evaluated on, from stored predictions."""

from typing import Any

from strata.curation.artifact import write_json
from strata.eval.compare import compare, markdown
from strata.experiments.console.app import app
from strata.experiments.session import open_store
from strata.experiments.settings.checks import whole
from strata.experiments.settings.places import new_folder
from strata.experiments.settings.stored_scores import pairs, scores_of


@app("compare")
def main(config: dict[str, Any]) -> None:
    """Print every shared metric with the 95 % interval of its difference and McNemar's test."""
    whole("seed", config["seed"], 0)
    out = None if config["out"] is None else new_folder(config["out"], "out")
    store = open_store(config)
    both = pairs(scores_of(config["a"], store, "a"), scores_of(config["b"], store, "b"))
    found = [difference for a, b in both for difference in compare(a, b, config["seed"])]
    table = markdown(found, "A", "B")
    print(f"A = {config['a']}\nB = {config['b']}\n\n{table}")
    if out is not None:
        out.mkdir(parents=True)
        write_json(out / "compare.json", [difference.record() for difference in found])
        (out / "compare.md").write_text(f"A = {config['a']}, B = {config['b']}\n\n{table}")
