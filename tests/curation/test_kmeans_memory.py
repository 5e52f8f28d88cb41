import os
import subprocess
import sys

import numpy as np
import pytest

from strata.curation.errors import ConfigError
from strata.curation.kmeans import points as points_module
from strata.curation.kmeans.flat import kmeans
from strata.curation.kmeans.memory import parse_memory
from strata.curation.kmeans.points import Points


def test_sizes():
    assert parse_memory("1GB") == parse_memory("1024 MiB") == 1 << 30 and parse_memory("1.5g") == 3 << 29
    assert parse_memory(10**9) == 10**9 and parse_memory(None) is None
    for wrong in ("much", "-1GB", 0, 12, True, 1.5):
        with pytest.raises(ConfigError, match="memory"):
            parse_memory(wrong)


@pytest.mark.parametrize("algorithm", ["lloyd", "accelerated"])
def test_little_memory_changes_no_byte(algorithm, tmp_path, monkeypatch):
    monkeypatch.setattr(points_module, "BLOCK", 1000)
    X = np.random.default_rng(0).standard_normal((9500, 40)).astype(np.float16)
    np.save(tmp_path / "x.npy", X)
    held = kmeans(X, 30, algorithm=algorithm, n_iter=6)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    streamed = kmeans(mapped, 30, algorithm=algorithm, n_iter=6, memory="1MB")
    assert not Points(mapped, memory=1 << 20).fits
    assert held.centroids.tobytes() == streamed.centroids.tobytes()
    assert held.labels.tobytes() == streamed.labels.tobytes() and held.history == streamed.history


def test_what_was_written_to_a_copy_on_write_map_stays(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((60_000, 8)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    mapped[:] = np.random.default_rng(0).standard_normal(mapped.shape)
    before = mapped.sum()
    kmeans(mapped, 5, init="random", n_iter=1, memory="1MB")
    assert mapped.sum() == before


_CHILD = """
import resource, sys
import numpy as np
from strata.curation.kmeans.flat import kmeans
X = np.load(sys.argv[1], mmap_mode="r")
kmeans(X[:5000], 8, n_iter=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kmeans(X, 16, init="random", n_iter=2, memory="64MB")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KB on Linux only")
def test_a_map_larger_than_memory_does_not_become_resident(tmp_path):
    rows = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float16, (700_000, 128))  # 179 MB, 358 MB centered
    block = np.random.default_rng(0).standard_normal((50_000, 128)).astype(np.float16)
    for start in range(0, len(rows), len(block)):
        rows[start : start + len(block)] = block
    rows.flush()
    del rows
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path / "x.npy")], capture_output=True, text=True, env=dict(os.environ)
    )
    assert child.returncode == 0, child.stderr
    assert float(child.stdout) < 190  # two blocks of 34 MB, 24 bytes a row, tiles
