"""Bad input: one line that names the field and the fix, exit code 2, nothing written."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flow import arguments
from torchvision.transforms.functional import to_tensor

from strata.curation.paths import data_root
from strata.experiments import runner
from strata.experiments.cli import dispatch
from strata.experiments.runner import Runner

CASES = {
    "unknown experiment": (["experiment=nothing_like_it"], ["experiment", "nothing_like_it", "quickstart"]),
    "typo in an override": (["ssl.stepz=3"], ["ssl.stepz", "no such setting"]),
    "typo in a group": (["pol=digits"], ["pol", "no such"]),
    "no setting": (["quickstart"], ["quickstart:", "NAME=VALUE", "experiment=quickstart"]),
    "column of no benchmark": (["+columns.x=[nope,knn-v1 top1]"], ["columns.x:", "'nope'", "digits"]),
    "column of no protocol": (["+columns.x=[digits,knn-v9 top1]"], ["columns.x:", "knn-v9", "knn-v1"]),
    "wrong type": (["ssl.steps=many"], ["ssl.steps", "many"]),
    "typo in an arm": (["+arms.flat.hierarchy.n_cluster=[4]"], ["arms.flat.hierarchy.n_cluster", "no such setting"]),
    "missing pool path": (["pool=folder", "pool.path=/not/there"], ["pool.path", "/not/there"]),
    "target larger than the pool": (["size=5000"], ["size", "5,000", "at most"]),
    "target of zero": (["size=0"], ["size"]),
    "n_clusters not decreasing": (["hierarchy.n_clusters=[20,20,8]"], ["hierarchy.n_clusters", "fewer"]),
    "n_clusters larger than n": (["hierarchy.n_clusters=[5000,20,8]"], ["hierarchy.n_clusters", "5"]),
    "unknown hierarchy setting": (["+hierarchy.k=3"], ["hierarchy.k", "no such setting"]),
    "negative resamplings": (["hierarchy.n_resamples=-1"], ["hierarchy.n_resamples"]),
    "unknown init": (["hierarchy.init=foo"], ["hierarchy.init", "foo"]),
    "unknown metric": (["hierarchy.metric=foo"], ["hierarchy.metric", "foo"]),
    "no iterations": (["hierarchy.n_iter=0"], ["hierarchy.n_iter"]),
    "size no number": (["size=many"], ["size", "many"]),
    "size no whole number": (["size=10.5"], ["size", "10.5"]),
    "one seed": (["seeds=3"], ["seeds", "[0,1,2]"]),
    "seed no number": (["seeds=[true]"], ["seeds"]),
    "seed too large": (["seeds=[99999999999999]"], ["seeds"]),
    "removed setting": (["~seeds"], ["seeds"]),
    "removed group": (["~pool"], ["pool"]),
    "arm no group": (["arms.flat=3"], ["arms.flat"]),
    "protocol nothing": (["protocols.knn=null"], ["protocols.knn"]),
    "name with a slash": (["name=../x"], ["name"]),
    "unknown dtype": (["embed.dtype=int8"], ["embed.dtype", "int8"]),
    "batch of nothing": (["embed.batch_size=0"], ["embed.batch_size"]),
    "unknown on_error": (["on_error=maybe"], ["on_error", "maybe"]),
    "no threads": (["runner.threads=0"], ["runner.threads"]),
    "unknown device": (["runner.device=abacus"], ["runner.device", "abacus"]),
    "unknown wandb mode": (["wandb.mode=nonsense"], ["wandb.mode", "nonsense"]),
    "no seeds": (["seeds=[]"], ["seeds"]),
    "same seed twice": (["seeds=[1,1]"], ["seeds"]),
    "bad worker count": (["runner.workers=some"], ["runner.workers", "some"]),
    "bad protocol option": (["protocols.knn.temperature=-1"], ["protocols.knn.temperature", "-1"]),
    "protocol option of another type": (["protocols.knn.k=x"], ["protocols.knn.k:", "whole number"]),
    "no neighbors": (["protocols.knn.k=[0]"], ["protocols.knn.k:"]),
    "more neighbors than images": (
        ["protocols.knn.k=[2000]", "protocols.knn.headline_k=2000"],
        ["protocols.knn.headline_k:", "1200"],
    ),
    "more neighbors than limited images": (
        ["benchmarks.digits.limit_train=15"],
        ["protocols.knn.headline_k:", "15", "digits"],
    ),
    "limit of nothing": (["benchmarks.digits.limit_train=0"], ["benchmarks.digits.limit_train:"]),
    "limit no number": (["benchmarks.digits.limit_train=x"], ["benchmarks.digits.limit_train:", "whole number"]),
    "unknown split of a benchmark": (["benchmarks.digits.test.split=x"], ["benchmarks.digits.test.split:"]),
    "more blocks than the backbone": (["protocols.linear.n_blocks=[9]"], ["protocols.linear.n_blocks:", "at most 4"]),
    "default sampler": (["sampler.allocation=bogus"], ["sampler.allocation:", "bogus", "flat"]),
    "sampler of an arm": (
        ["arms.hierarchical.sampler.within=bogus"],
        ["arms.hierarchical.sampler.within:", "bogus", "closest"],
    ),
    "no repeats": (["arms.hierarchical.sampler.max_repeats=0"], ["arms.hierarchical.sampler.max_repeats:"]),
    "repeats no number": (["arms.hierarchical.sampler.max_repeats=x"], ["arms.hierarchical.sampler.max_repeats:"]),
    "clusters of an arm": (["arms.flat.hierarchy.n_clusters=[9000]"], ["arms.flat.hierarchy.n_clusters:", "1200"]),
    "one value per level": (["hierarchy.resample_size=[3,2]"], ["hierarchy.resample_size:", "one per level"]),
    "unknown backbone": (["ssl.backbone=nope"], ["ssl.backbone:", "nope"]),
    "global crop off the patches": (["ssl.global_size=30"], ["ssl.global_size:", "patch"]),
    "local crop off the patches": (["ssl.local_size=15"], ["ssl.local_size:", "patch"]),
    "unknown model setting": (["+ssl.model_kwargs.foo=3"], ["ssl.model_kwargs:", "foo"]),
    "patch of no size": (["ssl.model_kwargs.patch_size=0"], ["ssl.model_kwargs:"]),
    "batch larger than the subset": (["ssl.batch_size=500"], ["ssl.batch_size:", "120"]),
    "recipe of an arm": (["+arms.flat.ssl.steps=0"], ["arms.flat.ssl.steps:"]),
    "components beyond the features": (["encoder.n_components=2000"], ["encoder.n_components:", "768"]),
    "components beyond the rows": (["encoder.fit_rows=10"], ["encoder.n_components:", "at most 9"]),
    "components no number": (["encoder.n_components=x"], ["encoder.n_components:", "whole number"]),
    "no such class": (["encoder._target_=foo.Bar"], ["encoder._target_:", "foo.Bar"]),
    "setting of another pool": (["+pool.n=8", "+pool.zipf=1"], ["pool.n:", "~pool.n ~pool.zipf"]),
    "interpolation of nothing": (["size=${nope}"], ["size:", "nope"]),
    "runs in a file": (["paths.runs=/etc/passwd/runs"], ["paths.runs:", "/etc/passwd"]),
    "runs nowhere": (["paths.runs=null"], ["paths.runs:"]),
    "tags no list": (["wandb.tags=3"], ["wandb.tags:", "list"]),
    "unknown metric of the table": (["table.metrics=[nope]"], ["table.metrics:", "nope", "top1"]),
    "metrics no list": (["table.metrics=top1"], ["table.metrics:", "[top1]"]),
    "unknown control": (["table.controls=[nope]"], ["table.controls:", "nope", "random"]),
    "unknown flag": (["--nope"], ["--nope:", "--cfg"]),
    "flag without its value": (["--cfg"], ["--cfg:"]),
    "unknown value of a flag": (["--cfg", "nope"], ["--cfg:", "nope", "job"]),
    **{
        f"{group} is null": ([f"{group}=null"], [f"{group}:"])
        for group in ("hierarchy", "pool", "encoder", "sampler", "ssl", "arms", "embed", "wandb", "runner", "paths",
                      "benchmarks", "protocols", "table", "seeds", "size", "name", "on_error", "experiment")
    },
}  # fmt: skip
CURATE = ["pool=digits", "out=subset", "size=10", "hierarchy.n_clusters=[20,5]"]
OTHERS = {
    "curate: seed": ("curate", [*CURATE, "seed=x"], ["seed:", "whole number"]),
    "curate: size": ("curate", [*CURATE, "size=5000"], ["size:", "1,200"]),
    "curate: sampler": ("curate", [*CURATE, "sampler.within=x"], ["sampler.within:", "closest"]),
    "curate: out under a file": ("curate", [*CURATE, "out=/etc/passwd/x"], ["out:", "/etc/passwd"]),
    "curate: out is there": ("curate", [*CURATE, "out=/etc"], ["out:", "exists"]),
    "curate: out no path": ("curate", [*CURATE, "out=3"], ["out:", "out=./3"]),
    "curate: out null": ("curate", [*CURATE, "out=null"], ["out:"]),
    "curate: no hierarchy": ("curate", [*CURATE, "hierarchy=null"], ["hierarchy:", "micro"]),
    "curate: one level too few": ("curate", [*CURATE, "hierarchy.resample_size=[2]"], ["hierarchy.resample_size:"]),
    "embed: no encoder": ("embed", ["encoder=null"], ["encoder:", "hog_color"]),
    "embed: batch": ("embed", ["embed.batch_size=0"], ["embed.batch_size:"]),
    "eval: no benchmark": ("eval", ["backbone=timm:vit_tiny_patch16_224"], ["benchmarks:", "there are none"]),
    "eval: unknown network": ("eval", ["backbone=timm:nope", "+benchmark@benchmarks.d=digits"], ["backbone:", "nope"]),
    "eval: no transformer": (
        "eval", ["backbone=timm:resnet18", "benchmark=digits"], ["protocols.linear.n_blocks:", "4 blocks", "hold 1"],
    ),
    "eval: unknown benchmark": ("eval", ["backbone=x", "benchmark=nope"], ["benchmark:", "'nope'", "digits", "finegrained12"]),
    "eval: unknown protocol": ("eval", ["backbone=x", "benchmark=digits", "protocol=[knn,nope]"], ["protocol:", "'nope'"]),
    "eval: no list of names": ("eval", ["backbone=x", "benchmark=[]"], ["benchmark:", "names"]),
    "eval: no protocol for the task": (
        "eval", ["backbone=timm:vit_tiny_patch16_224", "benchmark=digits", "protocol=depth"], ["benchmarks.digits:", "depth"],
    ),
    "eval: a backbone twice": ("eval", ["backbone=[timm:test_vit,timm:test_vit]", "benchmark=digits"], ["backbone:", "twice"]),
    "eval: a published set that is not there": (
        "eval", ["backbone=timm:test_vit", "benchmark=inat18"], ["benchmarks.inat18.", "train_val2018", "STRATA_DATA"],
    ),
    "eval: no test split": (
        "eval", ["backbone=timm:test_vit", "benchmark=digits", "benchmarks.digits.test=null"], ["benchmarks.digits.test"],
    ),
    "eval: image size": (
        "eval", ["backbone=untrained:timm:test_vit", "benchmark=digits", "image_size=90", "protocol=knn"],
        ["image_size", "90", "16"],
    ),
    "eval: processes": ("eval", ["backbone=timm:test_vit", "benchmark=digits", "processes=0"], ["processes:"]),
    "eval: unknown weights": (
        "eval", ["backbone=timm:vit_tiny_patch16_224.x", "+benchmark@benchmarks.d=digits"], ["backbone:", "(x)"],
    ),
    "eval: no folder": ("eval", ["backbone=/not/there", "+benchmark@benchmarks.d=digits"], ["backbone:", "/not/there"]),
    "eval: null": ("eval", ["backbone=null", "+benchmark@benchmarks.d=digits"], ["backbone:"]),
    "why: digits that look like a number": ("why", ["key=1e5"], ["'1e5'"]),
    "why: leading zeros": ("why", ["key=0012"], ["'0012'"]),
    "plan: a scale that others have": ("plan", ["experiment=table6_text", "scale=tiny"], ["scale:", "'tiny'", "micro, paper"]),
    "table: runs in a file": (
        "table", ["experiment=digits_lt", "paths.runs=/etc/passwd/x"], ["paths.runs:"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    overrides, expected = CASES[name]
    refused(overrides, expected, tmp_path, monkeypatch, capfd)


def refused(overrides, expected, tmp_path, monkeypatch, capfd, command="run"):
    given = arguments(command, *overrides)
    if any(o.startswith("experiment=") for o in overrides):
        given.remove("experiment=tiny")
    refused_line(given, expected, tmp_path, monkeypatch, capfd)


def refused_line(given, expected, tmp_path, monkeypatch, capfd) -> str:
    """Run a command that must refuse in one line and write nothing; returns the line."""
    place = tmp_path / "cwd"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("STRATA_RUNS", str(place / "runs"))
    monkeypatch.setattr(runner, "HEARTBEAT", 3600.0)  # on a busy machine it would say a second line: what is running
    code = dispatch(given)
    err = capfd.readouterr().err.strip()
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    for word in expected:
        assert word in err, err
    assert not any(place.iterdir()), "something was written"
    return err


@pytest.mark.parametrize("name", OTHERS)
def test_refused_by_other_commands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    command, overrides, expected = OTHERS[name]
    refused_line([command, *overrides], expected, tmp_path, monkeypatch, capfd)


@pytest.mark.data
def test_a_network_without_patches_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    if (root := data_root()) is None or not (root / "satellite" / "globe_height").is_dir():
        pytest.skip("satellite/globe_height is not in the data folder")
    words = ["eval", "backbone=timm:resnet18", "benchmark=globe_bands", "protocol=segmentation"]
    refused_line(words, ["patch tokens", "resnet18"], tmp_path, monkeypatch, capfd)


def test_wandb_mode_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("WANDB_MODE", "junk")
    refused([], ["WANDB_MODE", "junk", "offline"], tmp_path, monkeypatch, capfd)


def test_settings_that_the_experiment_made_for_another_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    given = ["plan", "experiment=quickstart", "pool=digits"]
    line = refused_line(given, ["pool.n:", "~pool.n ~pool.zipf"], tmp_path, monkeypatch, capfd)
    removals = re.findall(r"~pool\.\w+", line)
    assert dispatch([*given, *removals, "hierarchy.n_clusters=[60,20,8]", "size=100"]) == 0, "the fix is the fix"


def test_each_job_of_a_sweep_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert dispatch(arguments("plan", "-m", "size=0,-1,120")) == 2
    said = capfd.readouterr()
    first, second = said.err.strip().splitlines()
    assert "size=0] size:" in first and "size=-1] size:" in second
    assert "65 stages" in said.out, "the third job was planned"
    assert not any(tmp_path.iterdir())


def test_a_disk_that_fails_while_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def full(self: Runner, stages: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "runs" / "store" / "x"))

    monkeypatch.setattr(Runner, "run", full)
    refused_line(
        ["embed", f"paths.runs={tmp_path}/runs"], ["paths.runs:", "No space left"], tmp_path, monkeypatch, capfd
    )


class NaNEncoder:
    """An encoder whose embedding of the third image of a batch is not a number."""

    name, dim = "nan", 4

    @property
    def transform(self):
        return to_tensor

    def fit(self, pool, work_dir): ...

    def encode(self, batch):
        features = batch.flatten(1)[:, :4].clone()
        features[2, 1] = float("nan")
        return features

    def describe(self):
        return {"name": self.name}

    def to(self, device):
        return self


def test_nan_from_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, "nan_encoder", SimpleNamespace(NaNEncoder=NaNEncoder))
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path / "runs"))
    settings = ("size", "n_components", "color", "whiten", "fit_rows", "random_state", "normalize")
    overrides = ["encoder._target_=nan_encoder.NaNEncoder", *(f"~encoder.{name}" for name in settings)]
    assert dispatch(["embed", f"out={tmp_path}/out", "runner.workers=0", "wandb.mode=disabled", *overrides]) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("strata embed: error: ") and "rows 2" in last and "NaN" in last
    assert not (tmp_path / "out").exists()


def test_empty_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "images").mkdir()
    refused(["pool=folder", f"pool.path={tmp_path}/images"], ["pool"], tmp_path, monkeypatch, capfd)


def test_empty_parquet_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "set").mkdir()
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    empty = pa.table({"image": pa.array([], image), "label": pa.array([], pa.int64())})
    pq.write_table(empty, tmp_path / "set" / "train-00000-of-00001.parquet")
    override = ["pool=parquet", f"pool.path={tmp_path}/set", "pool.split=train"]
    refused(override, ["pool"], tmp_path, monkeypatch, capfd)


def test_unknown_command(capfd: pytest.CaptureFixture[str]):
    assert dispatch(["rum"]) == 2
    assert "rum" in capfd.readouterr().err


def test_nan_in_embeddings(tmp_path: Path):
    """NaN cannot get into a store, and a plain array with NaN is refused by the clustering: rows are named."""
    from strata.curation import EmbeddingStore, HierarchicalKMeans
    from strata.curation.errors import DataError

    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    rows[17, 2] = np.nan
    with pytest.raises(DataError, match="17"):
        EmbeddingStore.from_array(tmp_path / "store", rows)
    with pytest.raises(DataError, match="17"):
        HierarchicalKMeans(n_clusters=(5,), verbose=False).fit(rows)
    assert not any(tmp_path.iterdir())
