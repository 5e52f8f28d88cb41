"""results/README.md is what the command writes now."""

from pathlib import Path

from strata.experiments.index import EXPERIMENTS, RESULTS, index


def test_the_index_is_up_to_date():
    text = index()
    assert (RESULTS / "README.md").read_text() == text, "run python -m strata.experiments.index"
    for file in EXPERIMENTS.glob("*.yaml"):
        assert f"| {file.stem} |" in text or f"[{file.stem}]" in text


def test_every_link_leads_somewhere():
    for line in index().splitlines():
        if line.startswith("| ["):
            assert (RESULTS / line.split("](")[1].split(")")[0]).is_file(), line


def test_verdicts_are_those_of_the_values():
    text = index()
    assert "agrees: resampling is more uniform than none" in text, "fig3_simulated, five seeds"
    assert Path(RESULTS / "fig3_simulated" / "values.csv").is_file()
