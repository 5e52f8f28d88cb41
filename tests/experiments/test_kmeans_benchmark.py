from strata.experiments.benchmarks import hierarchy, kmeans_scratch
from strata.experiments.benchmarks import kmeans as benchmark


def test_every_method_runs_and_exact_ones_agree(tmp_path, capsys):
    out = tmp_path / "kmeans.md"
    benchmark.main(["--case", "tiny", "--rounds", "1", "--iterations", "5", "--threads", "1", "--out", str(out)])
    rows = [line.split("|")[1:-1] for line in out.read_text().splitlines() if line.startswith("| ")][1:]
    inertia = {row[0].strip(): float(row[3]) for row in rows}
    assert set(inertia) == set(benchmark.METHODS)
    exact = inertia["ours, exact"]
    for peer in ("scikit-learn Lloyd", "scikit-learn Elkan", "faiss"):
        assert abs(inertia[peer] / exact - 1) < 1e-3
    assert inertia["ours, accelerated"] < 1.05 * exact
    assert "GFLOP per CPU-second" in capsys.readouterr().out


def test_from_nothing_and_a_whole_hierarchy(tmp_path):
    out = tmp_path / "scratch.md"
    kmeans_scratch.main(
        ["--case", "tiny", "--updates", "5", "--peer-updates", "2", "--threads", "1", "--out", str(out)]
    )
    cells = {row[0]: row[1:] for row in rows_of(out)}
    assert cells["ours, k-means++ and exact"][-1] == "+0.00 %"
    assert abs(float(cells["ours, accelerated"][-1].removesuffix(" %"))) < 5
    assert {name for name in cells if name.startswith("greedy")} == {
        f"greedy k-means++ and {peer}" for peer in kmeans_scratch.PEERS
    }
    before = {phase: getattr(*place) for phase, place in hierarchy.PHASES.items()}
    hierarchy.main(["--tiny", "--out", str(out)])
    assert {phase: getattr(*place) for phase, place in hierarchy.PHASES.items()} == before, (
        "the clock is taken off again"
    )
    calls = {(row[0], row[1]): row[2] for row in rows_of(out)}
    for level in "123":
        assert calls[level, "seeds"] == "2" and calls[level, "assignment of all points after it"] == "1"


def rows_of(file):
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in file.read_text().splitlines() if line[:2] == "| "
    ]
    return rows[1:]
