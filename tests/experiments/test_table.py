import re
from pathlib import Path

import pytest
from flow import arguments

from strata.experiments.cli import dispatch
from strata.experiments.comparison.columns import shown_columns
from strata.experiments.comparison.table import NOT_RUN, build_tables
from strata.experiments.comparison.values import Value

VALUES = [
    Value("raw", 0, "data", "images", 1000), Value("raw", 1, "data", "images", 1000),
    Value("ours", 0, "data", "images", 100), Value("ours", 1, "data", "images", 100),
    Value("raw", 0, "set", "knn-v1 top1", 0.5), Value("raw", 1, "set", "knn-v1 top1", 0.6),
    Value("ours", 0, "set", "knn-v1 top1", 0.7), Value("ours", 1, "set", "knn-v1 top1", 0.8),
    Value("late", 0, "set", "knn", None), Value("late", 0, "data", "images", None),
    Value("raw", 0, "set", "knn-v1 macro", 0.1),
]  # fmt: skip


def tables():
    columns = shown_columns(VALUES, {"table": {"metrics": ["top1"]}})
    return build_tables("exp", VALUES, {"raw": {}, "ours": {}, "late": {}}, ["raw", "absent"], columns)


def test_cells():
    main, difference = tables()
    assert main.columns == ["arm", "images", "knn-v1 top1, set"]
    assert main.rows[0][:2] == ["raw", "1,000"]
    assert main.rows[1] == ["ours", "100", "75.0 ± 63.5"]  # t_{.975,1} * .0707 / sqrt(2) = .6353
    assert main.rows[2] == ["late", NOT_RUN, NOT_RUN]
    assert difference.title == "exp: difference to raw"
    assert difference.rows == [["ours", "+20.0 ± 0.0*"], ["late", NOT_RUN]]


def test_heights_are_in_metres_and_r2_as_it_is():
    values = [
        Value(arm, seed, "globe", f"height-v1 {metric}", value + shift)
        for arm, shift in (("raw", 0.0), ("ours", 0.25))
        for seed in (0, 1)
        for metric, value in (("mae_ood", 500.0), ("block_r2", 0.5))
    ]
    columns = shown_columns(values, {"table": {"metrics": ["mae_ood", "block_r2"]}})
    main, difference = build_tables("exp", values, {"raw": {}, "ours": {}}, ["raw"], columns)
    assert main.rows == [["raw", "500.0 ± 0.0", "0.500 ± 0.000"], ["ours", "500.2 ± 0.0", "0.750 ± 0.000"]]
    assert difference.rows == [["ours", "+0.2 ± 0.0*", "+0.250 ± 0.000*"]]
    assert main.notes[0].endswith("accuracies in %, lengths in m.") and "lengths in m," in difference.notes[0]
    assert not any("lengths" in note for table in tables() for note in table.notes)


def test_depths_of_a_room_keep_their_digits():
    values = [Value(arm, seed, "nyu", "depth-v1 rmse", 0.298) for arm in ("raw", "ours") for seed in (0, 1)]
    columns = shown_columns(values, {"table": {"metrics": ["rmse"]}})
    main = build_tables("exp", values, {"raw": {}, "ours": {}}, ["raw"], columns)[0]
    assert main.rows[0] == ["raw", "0.298 ± 0.000"] and main.notes[0].endswith("lengths in m.")


def test_renderings_hold_the_same_cells():
    main = tables()[0]
    lines = main.markdown().splitlines()
    assert lines[2].count("|") == lines[3].count("|") == lines[4].count("|") == 4
    assert "75.0 ± 63.5" in lines[5]
    assert r"75.0 $\pm$ 63.5 \\" in main.latex() and r"95 \%" in main.latex()


def test_before_anything_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Every column is there, each cell says `not run`, and the notes what that would cost; the hint keeps the overrides."""
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path / "runs"))
    assert dispatch(arguments("table", "seeds=[0]", "ssl.steps=9", "table.metrics=[top1,mean_per_class]")) == 0
    said = capfd.readouterr()
    head, _, first = [line for line in said.out.splitlines() if line.startswith("|")][:3]
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    scores = [f"{p} {m}, digits" for p in ("knn-v1", "linear-v1") for m in ("top1", "mean_per_class")]
    assert columns == ["arm", "images", "label entropy", "effective classes", "class coverage", *scores]
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells[0] == "raw" and all(re.fullmatch(rf"{NOT_RUN} \(\d+:\d\d\)", cell) for cell in cells[1:])
    assert re.search(r"Not run yet.*raw 0:\d\d.*hierarchical 0:\d\d", said.out)
    assert "strata run" in said.err and "'seeds=[0]'" in said.err and "ssl.steps=9" in said.err
