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
