"""The paper's printed numbers, as data: what the paper says twice is the same twice, and its own arithmetic holds."""

import csv
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "results" / "paper"
COUNTS = {
    "table1": 28, "table2": 4, "table3": 98, "table4": 14, "table5a": 65, "table5b": 40, "table5c": 45, "table6": 24,
    "table7": 20, "sampling_noise": 15, "fig2": 7, "fig3": 19, "fig4": 28, "zador": 7,
}  # fmt: skip


def numbers(name):
    """(arm, metric, source) -> value."""
    with open(FOLDER / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(row["arm"], row["metric"], row["source"]): float(row["value"]) for row in rows}
    assert len(found) == len(rows), "a number stands twice"
    return found


def printed(name):
    return {(arm, metric): value for (arm, metric, source), value in numbers(name).items() if source == "PDF"}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_every_number_is_there_once_with_its_source(name, count):
    found = numbers(name)
    assert len(found) == count
    assert {source for *_, source in found} <= {"PDF", "VEC", "NB", "DER"}


def test_there_is_no_other_table():
    assert {path.stem for path in FOLDER.glob("*.csv")} == set(COUNTS)


def test_table_1_repeats_tables_3_6_and_7():
    first, third, sixth, seventh = (printed(f"table{i}") for i in (1, 3, 6, 7))
    for ours, theirs in (("raw", "raw"), ("curated", "4r")):
        for name, metric in (
            ("in-val", "val"),
            ("in-A", "in-A"),
            ("sketch", "sketch"),
            ("oxf-H", "oxf-H"),
            ("inat18",) * 2,
        ):
            assert first[ours, name] == third[theirs, metric]
    for ours, theirs in (("raw", "ccnet-2"), ("curated", "curated-ccnet-2")):
        for metric in ("arc-c", "hellaswag", "nq", "tqa"):
            assert first[ours, metric] == sixth[theirs, metric]
    for arm in ("raw", "curated"):
        for metric in ("neon", "a-neon", "ca", "sao-paulo"):
            assert first[arm, metric] == seventh[arm, f"{metric}/block_r2"]


def test_table_4_repeats_table_3():
    assert {m: v for (a, m), v in printed("table4").items() if a == "4r"} == {
        m: v for (a, m), v in printed("table3").items() if a == "4r"
    }


def test_averages_of_tables_5b_and_7_follow_from_their_columns():
    dense = printed("table5b")
    for arm in {arm for arm, _ in dense}:
        for columns, mean, digit in (
            (("ade20k", "voc", "cityscapes"), "avg-segmentation", 5e-4),
            (("kitti", "nyu", "sun-rgbd"), "avg-depth", 5e-4),
        ):
            assert sum(dense[arm, c] for c in columns) / 3 == pytest.approx(dense[arm, mean], abs=1.1 * digit)
    height = printed("table7")
    for arm in ("raw", "curated"):
        for metric, digit in (("mae", 0.05), ("block_r2", 0.005)):
            mean = sum(height[arm, f"{site}/{metric}"] for site in ("neon", "ca", "sao-paulo", "a-neon")) / 4
            assert mean == pytest.approx(height[arm, f"avg/{metric}"], abs=2.1 * digit)


def test_gaps_of_table_5c_are_relative_to_the_best_group():
    found = printed("table5c")
    for arm in {arm for arm, _ in found}:
        for groups, gap in (
            (("low", "medium", "high"), "gap-income"), (("africa", "asia", "americas", "europe"), "gap-region"),
        ):  # fmt: skip
            values = [found[arm, group] for group in groups]
            assert 100 * (max(values) - min(values)) / max(values) == pytest.approx(found[arm, gap], abs=0.12)


def test_derived_numbers_are_what_they_are_derived_from():
    exponents = {arm: value for (arm, _, source), value in numbers("fig2").items() if source == "DER"}
    theory = {"data": 1, "kmeans": 1 / 3, "kmeans_s4": 1 / 5, "kmeans_s8": 1 / 9, "levels_2": 1 / 9, "levels_3": 1 / 27}
    assert exponents == pytest.approx(theory | {"uniform": 0.0}, abs=1e-4)
    law = {int(arm[1:]): value for (arm, *_), value in numbers("zador").items() if arm[1:].isdigit()}
    assert law == pytest.approx({d: d / (d + 2) for d in law}, abs=1e-4)
    fourth = {(arm, metric): value for (arm, metric, _), value in numbers("fig4").items()}
    for level, millions in enumerate((0.0750, 0.0745, 0.0741, 0.0736), 1):
        share = fourth[f"levels_{level}", "slope"] * millions
        assert fourth[f"levels_{level}", "proportional_slope"] == pytest.approx(share, rel=2e-3)
