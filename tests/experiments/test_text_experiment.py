"""A text experiment from its config to its tables, on made-up documents."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError, StrataError
from strata.curation.subset import read_subset
from strata.curation.text.tokens import TokenStore
from strata.experiments.planning.plan import make_plan
from strata.experiments.reporting.report import write_report
from strata.experiments.session import open_runner, open_store, plain
from strata.experiments.text.results import collect_text

CONF = Path(__file__).parent / "conf"
TOPICS = {"sea": "wave tide salt ship harbor", "sky": "cloud wind bird plane blue", "code": "loop array null type int"}
LEAK = "wave tide salt ship harbor wave"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    docs = []
    for i in range(150):
        source = str(rng.choice(list(TOPICS), p=[0.7, 0.2, 0.1]))
        words = rng.choice(TOPICS[source].split(), int(rng.integers(4, 40)))
        docs.append({"id": f"d{i}", "source": source, "topic": f"t{i % 3}", "text": " ".join(words)})
    docs[7]["text"] += " " + LEAK
    (folder / "docs.jsonl").write_text("\n".join(map(json.dumps, docs)))
    probe = [
        {"text": " ".join(rng.choice(TOPICS[name].split(), 4)), "label": name, "split": ["train", "test"][i % 2]}
        for i, name in enumerate([*TOPICS] * 12)
    ]
    (folder / "probe.jsonl").write_text("\n".join(map(json.dumps, probe)))
    (folder / "lm_eval").mkdir()
    items = [{"question": "what is it", "choices": ["a wave", "a cloud of birds"], "label": i % 2} for i in range(9)]
    items.append({"question": "no", "choices": [LEAK, "type"], "label": 0})
    (folder / "lm_eval" / "piqa_val.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, items)).encode()))
    return folder


def composed(data, runs, *overrides):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_TEXT", str(data))
        with initialize_config_module("strata.configs", version_base="1.3"):
            own = [f"hydra.searchpath=[file://{CONF}]", "experiment=tiny_text", f"paths.runs={runs}"]
            return plain(compose("run", [*own, "runner.workers=0", "wandb.mode=disabled", *overrides]))


@pytest.fixture(autouse=True)
def data_folder(data, monkeypatch):
    monkeypatch.setenv("STRATA_DATA", str(data))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_DATA", str(data))
        config = composed(data, runs)
        plan, store = make_plan(config), open_store(config)
        ran, there = open_runner(config, store, plan.name).run(plan.stages)
        assert (ran, there) == (len(plan.stages), 0)
        tables = write_report(plan, store, config, runs / "report")
    return config, plan, store, tables, runs / "report"


def by_arm(plan, seed=0):
    return {run.arm: run for run in plan.runs if run.seed == seed}


def test_stages_are_shared(finished):
    kinds = [stage.kind for stage in finished[1].stages]
    assert kinds.count("tokenizer") == 1 and kinds.count("decontaminate") == 1
    assert kinds.count("pool") == 2 and kinds.count("tokenize") == 2, "the arms' pool and the held-out one"
    assert kinds.count("pretrain_text") == 10 and kinds.count("sample_tokens") == 2
    raw = by_arm(finished[1])["a_raw"].sample
    assert raw.key == by_arm(finished[1], 1)["a_raw"].sample.key, "the whole pool is the same for every seed"


def test_contaminated_document_is_in_no_subset(finished):
    config, plan, store, _, _ = finished
    stage = next(stage for stage in plan.stages if stage.kind == "decontaminate")
    told = read_manifest(store.path(stage), "pool")
    assert (told["contaminated"], told["removed"], told["counts"]) == (1, 1, {"piqa": 1})
    assert told["texts"] == {"piqa": 20} and told["texts_too_short"]["piqa"] >= 1
    left = pq.read_table(store.path(stage) / "left_out.parquet").to_pylist()
    assert left[0]["words"] == " ".join(LEAK.split()[:5]) and left[0]["set"] == "piqa"
    for run in plan.runs:
        assert "d7" not in pq.read_table(store.path(run.sample) / "subset.parquet")["id"].to_pylist()


def test_equal_documents_and_equal_tokens(finished):
    _, plan, store, _, _ = finished
    for seed in (0, 1):
        runs = by_arm(plan, seed)
        lengths = TokenStore.open(store.path(runs["a_raw"].pretrain.inputs["tokens"])).lengths
        subsets = {arm: read_subset(store.path(run.sample)) for arm, run in runs.items()}
        assert len(subsets["a_random"]) == len(subsets["a_flat"]) == len(subsets["a_hierarchical"]) == 30
        tokens = {arm: int((lengths[s.rows] * s.repeats).sum()) for arm, s in subsets.items()}
        assert abs(tokens["a_random_tokens"] - tokens["a_hierarchical"]) <= lengths.max() / 2
        values = {(v.arm, v.metric): v.value for v in collect_text(plan, store) if v.seed == seed and v.group == "data"}
        assert values["a_flat", "tokens"] == tokens["a_flat"] and values["a_flat", "documents"] == 30
        seen = [read_manifest(store.path(run.pretrain))["tokens_seen"] for run in runs.values()]
        assert set(seen) == {1280}, "every arm has the same budget"


def test_balance_is_told_by_documents_and_tokens(finished):
    _, plan, store, _, _ = finished
    run = by_arm(plan)["a_raw"]
    told = json.loads((store.path(run.scores["data", "profile"]) / "profile.json").read_text())
    shares = np.array([pair[0] for pair in told["shares"]["source"].values()])
    assert told["effective_sources"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert len(told["shares"]["source+topic"]) == 9 and sum(
        p[1] for p in told["shares"]["source"].values()
    ) == pytest.approx(1)


def test_tables_and_figure(finished):
    _, _, _, tables, report = finished
    titles = [table.title for table in tables]
    assert titles[0] == "tiny_text, a: data and training" and titles[-1] == "tiny_text: beside the paper"
    assert [row[0] for row in tables[1].rows][:5] == ["raw", "random", "random_tokens", "flat", "hierarchical"]
    assert "hierarchical - random" in [row[0] for row in tables[1].rows]
    assert not any("not run" in cell for table in tables for row in table.rows for cell in row)
    rows = {row[1]: row for row in tables[-1].rows}
    assert rows["a_hierarchical"][3] == "76.1" and rows["a_hierarchical"][-2] == "+0.8"
    assert (report / "figure.png").stat().st_size > 5000 and "bits per byte" in (report / "table.md").read_text()


def test_a_table_of_nothing_says_not_run(data, tmp_path):
    config = composed(data, tmp_path)
    plan, store = make_plan(config), open_store(config)
    tables = write_report(plan, store, config, tmp_path / "report")
    assert all(cell == "not run" for row in tables[1].rows for cell in row[1:])


def test_how_it_is_computed_is_not_in_the_keys(data, tmp_path):
    def keys(*overrides):
        return [run.pretrain.key for run in make_plan(composed(data, tmp_path, *overrides)).runs]

    base = keys()
    assert keys("ssl.checkpoint_every=7", "++ssl.micro_batch_size=1", "++ssl.gradient_checkpointing=true") == base
    assert not set(keys("ssl.lr=0.01")) & set(base)
    assert not set(keys("decontaminate=null")) & set(base)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["ssl.lr=0"], "ssl.lr"),
        (["++ssl.wrong=1"], "ssl.wrong"),
        (["++text.tokenizr=1"], "text.tokenizr"),
        (["text.tokenizer.vocab_size=10"], "text.tokenizer.vocab_size"),
        (["text.tasks.names=[squad]"], "text.tasks.names: 'squad' is unknown"),
        (["decontaminate.against=[squad]"], "decontaminate.against: 'squad'"),
        (["arms.a_random_tokens.match_tokens=b"], "arms.a_random_tokens.match_tokens: 'b'"),
        (["pool.part=dev"], "pool.part: 'dev' is unknown"),
        (["++pool.pool.text_field=body"], "pool.pool.text_field: no field 'body'"),
        (["size=1000"], "size: 1,000 rows are wanted"),
        (["table.groups=[b]"], "table.groups: arm 'a_raw' is in none"),
        (["text.tokenizer.pool=null"], "text.tokenizer: needs a pool"),
        (["++text.tasks.scorer=fast"], "text.tasks.scorer"),
        (["++ssl.model_kwargs.hiden=3"], "ssl.model_kwargs.hiden"),
    ],
)
def test_bad_settings_are_named_before_anything_is_written(data, tmp_path, overrides, said):
    config = composed(data, tmp_path, *overrides)
    with pytest.raises(ConfigError) as error:
        make_plan(config)
    assert said in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_broken_line_stops_the_run_with_its_number_and_loses_nothing(data, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = (data / "docs.jsonl").read_text().splitlines()
    lines[20] = lines[20][:30]
    (folder / "docs.jsonl").write_text("\n".join(lines))
    (folder / "probe.jsonl").write_bytes((data / "probe.jsonl").read_bytes())
    config = composed(folder, tmp_path / "runs")
    plan, store = make_plan(config), open_store(config)
    with pytest.raises(StrataError, match="line 21 of docs.jsonl: no JSON"):
        open_runner(config, store, plan.name).run(plan.stages)
    assert not any(store.done(stage) for stage in plan.stages if stage.kind != "pool")
