"""Language models under test: perplexity is transformers' own, choices are lm-evaluation-harness's, features are right."""

import gzip
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from strata.curation.errors import ConfigError, DataError
from strata.curation.pools.jsonl import JsonlPool
from strata.curation.text.tokenizer import open_tokenizer, train_tokenizer
from strata.curation.text.tokens import TokenStore, tokenize
from strata.eval.features import Features
from strata.eval.text.evaluate import evaluate_tasks
from strata.eval.text.features import extract_text_features
from strata.eval.text.harness import run_harness
from strata.eval.text.model import load_language_model
from strata.eval.text.perplexity import document_losses, perplexity
from strata.eval.text.scorer import log_likelihoods, score_task
from strata.eval.text.tasks import TASKS, contamination_texts, read_task, split_shots

WORDS = """the a cat dog sat ran on in mat house red blue big small who what is was why because""".split()  # noqa: SIM905


def sentence(rng, n):
    return " ".join(rng.choice(WORDS, n))


def items(name, rng, n=12):
    """Made-up items in the fields of each file."""
    for i in range(n):

        def length(low=2, high=9):
            return int(rng.integers(low, high))

        choices = [sentence(rng, length()) for _ in range(2 if name in ("piqa", "winogrande") else 4)]
        doc = {"id": i, "question": sentence(rng, length(3, 20)), "choices": choices, "label": int(rng.integers(2))}
        if name == "winogrande":
            doc["question"] = f"{sentence(rng, 4)} _ {sentence(rng, length())}."
        if name == "lambada":
            doc = {"context": sentence(rng, length(5, 40)), "target": str(rng.choice(WORDS))}
        if name == "blimp":
            doc = {"good": sentence(rng, 5), "bad": sentence(rng, 6)}
        if name in ("nq_open", "triviaqa"):
            doc = {"question": sentence(rng, 6), "answers": [str(rng.choice(WORDS)), "nothing"]}
        yield doc


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A random network with peaked predictions, its tokenizer, documents of two sources, and a data folder of tasks."""
    folder, rng = tmp_path_factory.mktemp("lm"), np.random.default_rng(0)
    documents = [{"text": sentence(rng, int(rng.integers(1, 60))), "label": ["x", "y"][i % 2]} for i in range(24)]
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, documents)))
    pool = JsonlPool(str(folder / "d.jsonl"), label_field="label")
    train_tokenizer(pool, folder / "tokenizer", vocab_size=290)
    tokenize(pool, folder / "tokenizer", folder / "tokens", progress=False)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(open_tokenizer(folder / "tokenizer")), hidden_size=32, intermediate_size=48, num_hidden_layers=5,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=48, initializer_range=0.4,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    open_tokenizer(folder / "tokenizer").save_pretrained(folder / "model")
    (folder / "data" / "lm_eval").mkdir(parents=True)
    for name, task in TASKS.items():
        n = 60 if task.kind == "generate" else 12
        text = "\n".join(json.dumps(doc) for doc in items(name, rng, n))
        (folder / "data" / "lm_eval" / task.file).write_bytes(gzip.compress(text.encode()))
    return folder, pool, load_language_model(folder / "model", "cpu")


@pytest.fixture
def tasks(made, monkeypatch):
    monkeypatch.setenv("STRATA_DATA", str(made[0] / "data"))


# ---- perplexity


def test_losses_are_transformers_own(made):
    folder, _, model = made
    store, plain = TokenStore.open(folder / "tokens"), AutoModelForCausalLM.from_pretrained(folder / "model")
    rows = np.flatnonzero(store.lengths < 48)
    assert 5 < len(rows) < len(store), "some documents fit the network and some do not"
    found = document_losses(model, store, rows, batch_tokens=200)
    for row, loss in zip(rows, found):
        ids = torch.tensor([[store.bos_id, *store.document(row).tolist()]])
        with torch.no_grad():
            expected = plain(input_ids=ids, labels=ids).loss.item()
        assert loss / store.lengths[row] == pytest.approx(expected, abs=1e-4)


def test_long_documents_are_read_in_windows(made):
    folder, _, model = made
    store = TokenStore.open(folder / "tokens")
    row = int(store.lengths.argmax())
    ids = np.concatenate([[store.bos_id], store.document(row)]).astype(np.int64)
    assert len(ids) > 49
    expected = 0.0
    for start in range(0, len(ids) - 1, 48):
        window = torch.from_numpy(ids[start : start + 49])[None]
        with torch.no_grad():
            logits = model.module(input_ids=window[:, :-1]).logits[0]
        expected += torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum").item()
    assert document_losses(model, store, np.array([row]))[0] == pytest.approx(expected, rel=1e-5)


def test_sources_are_told_apart_and_count_the_same(made, tmp_path):
    folder, pool, model = made
    scores = perplexity(model, pool, folder / "tokens", tmp_path / "out", name="held")
    store = TokenStore.open(folder / "tokens")
    losses = document_losses(model, store, np.arange(len(store)))
    found = {(s.benchmark, s.metric): s for s in scores}
    bits = []
    for label, source in enumerate(pool.label_names):
        here = pool.labels == label
        bits.append(losses[here].sum() / np.log(2) / store.n_bytes[here].sum())
        score = found[f"held/{source}", "bits_per_byte"]
        assert score.value == pytest.approx(bits[-1], rel=1e-6) and score.n == here.sum()
        assert score.ci_low < score.value < score.ci_high
        mean = np.exp(losses[here].sum() / store.lengths[here].sum())
        assert found[f"held/{source}", "perplexity"].value == pytest.approx(mean, rel=1e-6)
    assert found["held", "bits_per_byte"].value == pytest.approx(np.mean(bits), rel=1e-6)
    few = perplexity(model, pool, folder / "tokens", tmp_path / "few", name="held", per_source=3)
    assert few[0].n == 6


def test_tokens_of_another_pool_or_model_are_refused(made, tmp_path):
    folder, pool, model = made
    (tmp_path / "one.jsonl").write_text('{"text": "the cat"}')
    with pytest.raises(DataError, match="holds 24 documents and pool 'one' 1"):
        perplexity(model, JsonlPool(str(tmp_path / "one.jsonl")), folder / "tokens", tmp_path / "o", name="x")
    with pytest.raises(ConfigError, match="nowhere cannot be opened"):
        load_language_model(tmp_path / "nowhere", "cpu")


# ---- choices


def test_a_shared_context_changes_nothing(made):
    """Against one pass for each pair, unpadded."""
    model, rng = made[2], np.random.default_rng(1)
    pairs = [(context, " " + sentence(rng, int(rng.integers(1, 7)))) for context in
             ("the cat ", "the cat", "", "who is " * 20, sentence(rng, 12)) for _ in range(4)]  # fmt: skip
    for (context, ending), answer in zip(pairs, log_likelihoods(model, pairs, batch_tokens=100)):
        head = model.tokenizer.encode(context.rstrip()) if context else [0]
        spaces = context[len(context.rstrip()) :]
        whole = (
            model.tokenizer.encode(context.rstrip() + spaces + ending)
            if context
            else [0, *model.tokenizer.encode(ending, add_special_tokens=False)]
        )
        tail = whole[len(head) :]
        window = (head + tail)[-49:]
        with torch.no_grad():
            logits = model.module(input_ids=torch.tensor([window[:-1]])).logits[0, -len(tail) :].log_softmax(-1)
        assert answer.log_likelihood == pytest.approx(logits[range(len(tail)), tail].sum().item(), abs=1e-3)
        assert answer.greedy == (logits.argmax(-1).tolist() == tail)


def test_every_number_is_the_harnesss(made, tasks):
    names = [name for name, task in TASKS.items() if task.kind != "generate"]
    theirs = run_harness(made[2], [f"local:{name}" for name in names], limit=10, batch_size=4)
    for name in names:
        task, docs = TASKS[name], read_task(name, 10)
        ours = score_task(made[2], task, docs, batch_tokens=300)
        assert ours["correct"].mean() == pytest.approx(theirs[name]["acc"]), name
        if "acc_norm" in theirs[name]:
            assert ours["correct_norm"].mean() == pytest.approx(theirs[name]["acc_norm"]), name
        if "nats" in ours:
            assert np.exp(ours["nats"].mean()) == pytest.approx(theirs[name]["perplexity"], rel=1e-4)
        if task.kind == "choice":
            sample = theirs[name]["samples"][0]
            values = [float(pair[0]) for pair in sample["filtered_resps"]]
            assert int(np.argmax(values)) == ours["prediction"][sample["doc_id"]]


def test_generation_has_examples_that_are_not_scored(made, tasks):
    found = run_harness(made[2], ["local:nq_open"], limit=6, shots=2)["nq_open"]
    assert 0.0 <= found["exact_match"] <= 1.0 and len(found["samples"]) == 6
    prompt = (
        found["samples"][0]["arguments"]["gen_args_0"]["arg_0"]
        if isinstance(found["samples"][0]["arguments"], dict)
        else found["samples"][0]["arguments"][0][0]
    )
    assert prompt.startswith("Answer these questions:\n\nQ: ") and prompt.count("Q: ") == 3 and prompt.endswith("\nA:")
    docs = read_task("nq_open", 56)  # what the harness was given: 50 to draw from, 6 to score
    shots, scored = split_shots(docs, 2)
    assert len(shots) == 50 and shots + scored == docs
    shown = {doc["question"] for doc in shots}
    asked = [part.split("?")[0] for part in prompt.split("Q: ")[1:]]
    assert asked[0] in shown and asked[1] in shown


def test_scores_of_all_tasks_are_written(made, tasks, tmp_path):
    names = ["piqa", "lambada", "triviaqa", "winogrande"]
    scores = evaluate_tasks(made[2], names, tmp_path / "s", limit=8, shots=1)
    found = {(s.benchmark, s.metric): s for s in scores}
    assert set(found) == {("piqa", "acc"), ("piqa", "acc_norm"), ("lambada", "acc"), ("lambada", "perplexity"),
                          ("triviaqa", "exact_match"), ("winogrande", "acc"), ("winogrande", "acc_norm")}  # fmt: skip
    assert all(score.n == 8 and score.ci_low <= score.value <= score.ci_high for score in scores)
    other = {
        (s.benchmark, s.metric): s.value
        for s in evaluate_tasks(made[2], ["piqa"], tmp_path / "t", limit=8, scorer="lm_eval")
    }
    assert other["piqa", "acc"] == found["piqa", "acc"].value


def test_bad_items_and_names_are_named(made, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="'squad' is unknown"):
        read_task("squad")
    (tmp_path / "lm_eval").mkdir()
    file = tmp_path / "lm_eval" / TASKS["piqa"].file
    file.write_bytes(gzip.compress(b'{"question": "q", "choices": ["a", "b"], "label": 0}\n{"question": "q"}\n'))
    monkeypatch.setenv("STRATA_DATA", str(tmp_path))
    with pytest.raises(DataError, match="line 2 of piqa_val.jsonl.gz is no item of piqa"):
        read_task("piqa")
    with pytest.raises(ConfigError, match="scorer: 'fast' is unknown"):
        evaluate_tasks(made[2], ["piqa"], tmp_path / "x", scorer="fast")


def test_limit_draws_the_same_items_for_everybody(made, tasks):
    assert read_task("blimp", 5) == read_task("blimp", 5) and len(read_task("blimp", 5)) == 5
    assert read_task("blimp", 5, seed=1) != read_task("blimp", 5)
    assert len(contamination_texts("blimp")) == 24 and len(contamination_texts("siqa")) == 48


# ---- features


def test_features_are_the_networks_states(made, tmp_path):
    folder, pool, model = made
    extract_text_features(model, {"train": pool, "test": pool}, tmp_path / "f", batch_tokens=300)
    features = Features.open(tmp_path / "f", "train")
    assert features.cls.shape == features.avg.shape == (24, 4, 32) and features.label_names == ["x", "y"]
    assert features.labels.tolist() == pool.labels.tolist()
    for row in (0, 5, int(TokenStore.open(folder / "tokens").lengths.argmax())):
        ids = model.tokenizer.encode(pool[row])[:48]
        with torch.no_grad():
            states = model.module.base_model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        torch.testing.assert_close(
            torch.from_numpy(features.cls[row, -1].copy()), states[-1][0, -1], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            torch.from_numpy(features.avg[row, -1].copy()), states[-1][0, 1:].mean(0), rtol=1e-4, atol=1e-4
        )
        third = model.module.base_model.norm(states[-3][0, -1])
        torch.testing.assert_close(torch.from_numpy(features.cls[row, -3].copy()), third, rtol=1e-4, atol=1e-4)
