import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from strata.curation.embed import embed
from strata.curation.encoders.hog_color import HOGColor
from strata.curation.encoders.pixels_pca import PixelsPCA
from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.base import UnreadableItem
from strata.curation.store import EmbeddingStore


class Noise:
    """n random images of 12 x 10 pixels."""

    name, label_names, fingerprint = "noise", ["even", "odd"], "abc"

    def __init__(self, n=50, broken=()):
        self.n, self.broken, self.ids = n, broken, [f"noise/{row}" for row in range(n)]
        self.labels = np.arange(n, dtype=np.int64) % 2

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        if row in self.broken:
            raise UnreadableItem(row, self.ids[row], "cut short")
        return Image.fromarray(np.random.default_rng(row).integers(0, 256, (10, 12, 3), np.uint8))

    def describe(self):
        return {"source": "test", "n": self.n}


def pca(**change):
    return PixelsPCA(**{"size": 4, "n_components": 6, "fit_rows": 30, **change})


class Counting(PixelsPCA):
    """Counts what it does; ``poison``: item whose embedding becomes NaN, ``kill_at``: call that kills the process."""

    def __init__(self, poison=None, kill_at=None):
        super().__init__(size=4, n_components=6, fit_rows=30)
        self.poison, self.kill_at, self.encoded, self.calls, self.fits = poison, kill_at, 0, 0, 0

    def _sample(self, pool):
        self.fits += 1
        return super()._sample(pool)

    def encode(self, batch):
        self.calls += 1
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        features = super().encode(batch)
        if self.poison is not None and self.encoded <= self.poison < self.encoded + len(batch):
            features[self.poison - self.encoded, 0] = torch.nan
        self.encoded += len(batch)
        return features


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def run(pool, encoder, out, **options):
    return embed(pool, encoder, out, **{"progress": False, "device": "cpu", "shard_rows": 16, **options})


def test_rows_are_the_encoder_applied_to_the_pool(tmp_path):
    encoder = pca()
    out = run(Noise(), encoder, tmp_path / "e", dtype="float32", batch_size=7, key="k", inputs={"pool": "p"})
    store = EmbeddingStore.open(out)
    one_by_one = [encoder.encode(encoder.transform(Noise()[row])[None])[0].numpy() for row in range(50)]
    assert np.array_equal(store.to_numpy(), np.stack(one_by_one))
    assert store.ids == Noise().ids and np.array_equal(store.labels, Noise().labels)
    assert [len(np.load(file)) for file in sorted(out.glob("shard-*"))] == [16, 16, 16, 2]


def test_manifest_says_how_it_was_made(tmp_path):
    manifest = EmbeddingStore.open(run(Noise(), pca(normalize=True), tmp_path / "e", key="k")).manifest
    assert manifest["key"] == "k" and manifest["pool"]["fingerprint"] == "abc" and manifest["pool"]["source"] == "test"
    assert manifest["encoder"]["name"] == "pixels_pca" and manifest["normalization"] == "l2"
    assert manifest["transform"]["size"] == [4, 4] and "interpolation" in manifest["transform"]
    assert (manifest["n"], manifest["dim"], manifest["dtype"]) == (50, 6, "float16")
    assert manifest["label_names"] == ["even", "odd"] and list(manifest["encoder_state"]) == ["pca.safetensors"]


@pytest.mark.parametrize(
    "make", [pca, lambda: HOGColor(size=16, n_components=6), lambda: pca(normalize=True, whiten=True)]
)
def test_batch_size_does_not_change_a_byte(tmp_path, make):
    first = files(run(Noise(), make(), tmp_path / "a", batch_size=1, dtype="float32"))
    for batch_size in (3, 16, 200):
        assert files(run(Noise(), make(), tmp_path / str(batch_size), batch_size=batch_size, dtype="float32")) == first


def test_workers_and_batches_do_not_change_a_byte(tmp_path):
    encoded = []
    for row in range(40):
        Noise()[row].save(tmp_path / "one.png")
        encoded.append({"bytes": (tmp_path / "one.png").read_bytes(), "path": f"{row}.png"})
    encoded[33]["bytes"] = b"not an image"
    pq.write_table(pa.table({"image": encoded[:32]}), tmp_path / "good-00000-of-00001.parquet")
    pq.write_table(pa.table({"image": encoded}), tmp_path / "bad-00000-of-00001.parquet")
    from strata.curation.pools.parquet import ParquetPool

    good, bad = (ParquetPool(str(tmp_path), split, label_column=None) for split in ("good", "bad"))
    before = torch.random.get_rng_state()
    alone = files(run(good, pca(), tmp_path / "a", batch_size=16))
    assert files(run(good, pca(), tmp_path / "b", batch_size=5, num_workers=1)) == alone
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(UnreadableItem, match=r"33\.png.*row 33") as caught:  # its type survives the worker
        run(bad, pca(fit_rows=8), tmp_path / "c", num_workers=1)
    assert caught.value.row == 33 and not (tmp_path / "c.partial").exists()


def test_killed_run_resumes_to_the_same_bytes(tmp_path):
    script = f"""
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("t", {str(__file__)!r})
        t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t)
        t.run(t.Noise(), t.Counting(kill_at=6), {str(tmp_path / "e")!r}, batch_size=8, key="k")
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    partial = tmp_path / "e.partial"
    assert not (tmp_path / "e").exists()
    assert sorted(file.name for file in partial.glob("shard-*")) == ["shard-00000.npy", "shard-00001.npy"]
    (partial / "shard-00002.npy.tmp").write_bytes(b"cut off")
    kept = (partial / "shard-00001.npy").stat().st_mtime_ns

    resumed = Counting()
    run(Noise(), resumed, tmp_path / "e", batch_size=8, key="k")
    assert (tmp_path / "e" / "shard-00001.npy").stat().st_mtime_ns == kept
    assert resumed.encoded == 50 - 32 and resumed.fits == 0
    whole = Counting()
    run(Noise(), whole, tmp_path / "whole", batch_size=8, key="k")
    assert whole.encoded == 50 and whole.fits == 1
    assert files(tmp_path / "e") == files(tmp_path / "whole")


class Dies(Counting):
    def encode(self, batch):
        if self.calls == 4:
            raise RuntimeError("out of memory")
        return super().encode(batch)


def test_partial_work_of_other_settings_is_not_used(tmp_path):
    for name, change in {
        "shard_rows": lambda out: run(Noise(), Counting(), out, shard_rows=8),
        "dtype": lambda out: run(Noise(), Counting(), out, dtype="float32"),
        "encoder": lambda out: run(Noise(), pca(random_state=1), out),
        "pool": lambda out: run(Noise(49), pca(), out),
    }.items():
        with pytest.raises(RuntimeError, match="out of memory"):
            run(Noise(), Dies(), tmp_path / name, batch_size=8)
        assert len(list((tmp_path / f"{name}.partial").glob("shard-*"))) == 2
        change(tmp_path / name)
        change(tmp_path / f"{name}-fresh")
        assert files(tmp_path / name) == files(tmp_path / f"{name}-fresh")


def test_damaged_shard_is_made_again(tmp_path):
    with pytest.raises(RuntimeError):
        run(Noise(), Dies(), tmp_path / "e", batch_size=8)
    shard = tmp_path / "e.partial" / "shard-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-1])
    again = Counting()
    run(Noise(), again, tmp_path / "e", batch_size=8)
    assert again.encoded == 50 - 16
    assert files(tmp_path / "e") == files(run(Noise(), Counting(), tmp_path / "whole", batch_size=8))


def test_nan_is_refused_by_id_and_nothing_is_left(tmp_path):
    with pytest.raises(DataError, match=r"rows 37 \('noise/37'\) hold NaN"):
        run(Noise(), Counting(poison=37), tmp_path / "e", batch_size=8)
    assert list(tmp_path.iterdir()) == []


def test_unreadable_item_stops_and_nothing_is_left(tmp_path):
    with pytest.raises(UnreadableItem, match="noise/41"):
        run(Noise(broken={41}), pca(fit_rows=2, n_components=1), tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"shard_rows": 0}, "shard_rows"),
        ({"device": "toaster"}, "device"),
        ({"pool": Noise(0)}, "pool"),
        ({"encoder": pca(n_components=30)}, "encoder.n_components"),
    ],
)
def test_bad_settings_name_their_field(tmp_path, change, field):
    with pytest.raises(ConfigError) as caught:
        run(**{"pool": Noise(), "encoder": pca(), "out": tmp_path / "e", **change})
    assert caught.value.field == field
    assert list(tmp_path.iterdir()) == []


def test_encoder_of_another_width_is_refused(tmp_path):
    class Narrow(PixelsPCA):
        def encode(self, batch):
            return super().encode(batch)[:, :1]  # numpy would broadcast it

    with pytest.raises(ConfigError, match="but its dim is 6"):
        run(Noise(), Narrow(size=4, n_components=6, fit_rows=30), tmp_path / "e")


def test_existing_folder_is_not_touched(tmp_path):
    out = run(Noise(), pca(), tmp_path / "e")
    before = files(out)
    with pytest.raises(Exception, match="exists already"):
        run(Noise(), pca(), out)
    assert files(out) == before


@pytest.mark.data
def test_real_pool_is_fast(tmp_path):
    import time

    from strata.curation.paths import data_root
    from strata.curation.pools.parquet import ParquetPool

    root = data_root()
    if root is None or not (root / "images" / "tinyimagenet_lt").is_dir():
        pytest.skip("images/tinyimagenet_lt is not under data_root()")
    pool = ParquetPool("images/tinyimagenet_lt", "pool")
    start = time.perf_counter()
    store = EmbeddingStore.open(run(pool, PixelsPCA(), tmp_path / "e", shard_rows=65536))
    assert time.perf_counter() - start < 30
    assert store.shape == (26735, 64) and store.labels is not None
