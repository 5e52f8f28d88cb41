from strata.experiments.results import Value
from strata.experiments.table import NOT_RUN, build_tables

VALUES = [
    Value("raw", 0, "data", "images", 1000), Value("raw", 1, "data", "images", 1000),
    Value("ours", 0, "data", "images", 100), Value("ours", 1, "data", "images", 100),
    Value("raw", 0, "set", "knn-v1 top1", 0.5), Value("raw", 1, "set", "knn-v1 top1", 0.6),
    Value("ours", 0, "set", "knn-v1 top1", 0.7), Value("ours", 1, "set", "knn-v1 top1", 0.8),
    Value("late", 0, "set", "knn", None), Value("late", 0, "data", "images", None),
    Value("raw", 0, "set", "knn-v1 macro", 0.1),
]  # fmt: skip


def tables():
    return build_tables("exp", VALUES, {"raw": {}, "ours": {}, "late": {}}, ["raw", "absent"], ["top1"])


def test_cells():
    main, difference = tables()
    assert main.columns == ["arm", "images", "knn-v1 top1, set"]
    assert main.rows[0][:2] == ["raw", "1,000"]
    assert main.rows[1] == ["ours", "100", "75.0 ± 63.5"]  # t_{.975,1} * .0707 / sqrt(2) = .6353
    assert main.rows[2] == ["late", NOT_RUN, NOT_RUN]
    assert difference.title == "exp: difference to raw"
    assert difference.rows == [["ours", "+20.0 ± 0.0*"], ["late", NOT_RUN]]


def test_renderings_hold_the_same_cells():
    main = tables()[0]
    lines = main.markdown().splitlines()
    assert lines[2].count("|") == lines[3].count("|") == lines[4].count("|") == 4
    assert "75.0 ± 63.5" in lines[5]
    assert r"75.0 $\pm$ 63.5 \\" in main.latex() and r"95 \%" in main.latex()
