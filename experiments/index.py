"""results/README.md: one line per experiment with what came out, from the committed values and today's claims."""

import re
from collections import Counter
from pathlib import Path

import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from strata.experiments.comparison.claims import AGREES, DISAGREES, UNDECIDED, Verdict, judge
from strata.experiments.comparison.values import Value, read_values
from strata.experiments.session import plain

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS, RESULTS = ROOT / "configs" / "experiment", ROOT / "results"
HEAD = """# Results

Written by `python -m strata.experiments.index`; `tests/experiments/test_index.py` says when it is out of date. A verdict
judges a claim (of the paper, or of the experiment's own file) by a paired 95 % t interval over seeds: agrees, disagrees, or
undecided. Each folder holds the table, figure, every value with the key of its stage, the settings and the provenance. What did
not come out as hoped: [LOG.md](LOG.md). The paper's numbers: [paper](paper/README.md).

| experiment | what | scale | seeds | verdict |
|---|---|---|---|---|
"""


def index() -> str:
    """The whole text."""
    files = sorted(EXPERIMENTS.glob("*.yaml"), key=lambda file: _order(file.stem))
    lines = "\n".join(_line(file) for file in files)
    return HEAD + lines + "\n\n## Claims\n\n" + "\n".join(filter(None, map(_claims, files)))


def _line(file: Path) -> str:
    name, what = file.stem, _first_sentence(file)
    folder = RESULTS / name
    if not (folder / "values.csv").is_file():
        return f"| {name} | {what} | | | not run: {_cost(file)} |"
    values, scale = read_values(folder / "values.csv"), _scale(folder)
    seeds = len({value.seed for value in values if value.value is not None})
    said = Counter(verdict.verdict for verdict in _verdicts(file, values, scale))
    counted = ", ".join(f"{said[word]} {word}" for word in (AGREES, DISAGREES, UNDECIDED) if said[word])
    return f"| [{name}]({name}/table.md) | {what} | {scale} | {seeds} | {counted or 'no claims; see its table'} |"


def _claims(file: Path) -> str:
    folder = RESULTS / file.stem
    if not (folder / "values.csv").is_file():
        return ""
    verdicts = _verdicts(file, read_values(folder / "values.csv"), _scale(folder))
    if not verdicts:
        return ""
    lines = [f"**{file.stem}**", ""]
    for verdict in verdicts:
        found, paper = verdict.found, "" if verdict.printed is None else f" (paper {verdict.printed:+.3g})"
        ours = "not run" if found is None else f"{found.mean:+.3g} ± {found.half_width:.2g}"
        decide = f"; to decide: {verdict.decide}" if verdict.decide else ""
        lines.append(f"- {verdict.verdict}: {verdict.claim.says}: {ours}{paper}{decide}")
    return "\n".join(lines) + "\n"


def _verdicts(file: Path, values: list[Value], scale: str) -> list[Verdict]:
    with initialize_config_module("strata.configs", version_base="1.3"):
        config = plain(compose("run", [f"experiment={file.stem}", f"scale={scale}"]))
    GlobalHydra.instance().clear()
    return judge(values, config)


def _scale(folder: Path) -> str:
    return str(yaml.safe_load((folder / "config.yaml").read_text()).get("scale", "micro"))


def _comment(file: Path) -> str:
    lines = [line.removeprefix("#").strip() for line in file.read_text().splitlines()[1:]]
    return "\n".join(lines[: next((i for i, line in enumerate(lines) if line.startswith("defaults:")), len(lines))])


def _first_sentence(file: Path) -> str:
    """The first paragraph of the opening comment, as one cell."""
    return " ".join(_comment(file).split("\n\n")[0].split()).replace("|", "/")


def _cost(file: Path) -> str:
    found = re.search(r"What it costs: (.*?)(?:\n[A-Z]|\Z)", _comment(file), re.DOTALL)
    return " ".join(found[1].split()).split(";")[0] if found else "see its file"


def _order(name: str) -> tuple[int, str]:
    return (0 if name.startswith("table") else 1 if name.startswith("fig") else 2, name)


if __name__ == "__main__":
    (RESULTS / "README.md").write_text(index())
