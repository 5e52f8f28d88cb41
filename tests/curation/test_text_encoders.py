"""Encoders of texts: hashed words, and a network whose tokens are averaged."""

import json

import numpy as np
import pytest
import torch

from strata.curation import EmbeddingStore
from strata.curation.embed import embed
from strata.curation.encoders.base import Encoder
from strata.curation.encoders.hashed_text import HashedText
from strata.curation.encoders.sentence import SentenceEncoder
from strata.curation.errors import ConfigError
from strata.curation.pools.content import check_reads
from strata.curation.pools.digits import DigitsPool
from strata.curation.pools.jsonl import JsonlPool

WORDS = {
    "sea": "wave tide salt ship harbor",
    "sky": "cloud wind bird plane blue",
    "code": "loop array null type pointer",
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """90 texts of three topics, 8 words each, and one without a word."""
    rng, file = np.random.default_rng(0), tmp_path_factory.mktemp("texts") / "t.jsonl"
    records = []
    for i in range(90):
        topic = list(WORDS)[i % 3]
        records.append({"text": " ".join(rng.choice(WORDS[topic].split(), 8)), "label": topic})
    records[89]["text"] = "?!"
    file.write_text("\n".join(map(json.dumps, records)))
    return JsonlPool(str(file), label_field="label")


def test_topics_are_apart_and_bits_do_not_depend_on_batches(pool, tmp_path):
    stores = []
    for name, batch in (("a", 7), ("b", 90)):
        encoder = HashedText(n_features=4096, n_components=8)
        embed(pool, encoder, tmp_path / name, batch_size=batch, dtype="float32", progress=False)
        stores.append(EmbeddingStore(tmp_path / name).to_numpy())
    assert stores[0].tobytes() == stores[1].tobytes()
    X, y = stores[0][:89], pool.labels[:89]
    assert np.allclose(np.linalg.norm(X, axis=1), 1) and not stores[0][89].any()
    cosine = X @ X.T
    same = y[:, None] == y[None]
    off = ~np.eye(89, dtype=bool)
    assert cosine[same & off].mean() > 0.4 and abs(cosine[~same]).max() < 1e-5
    assert (tmp_path / "a" / "encoder" / "svd.safetensors").read_bytes() == (
        tmp_path / "b" / "encoder" / "svd.safetensors"
    ).read_bytes()


def test_it_is_tf_idf_and_svd_as_scikit_learn_has_them(pool, tmp_path):
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    encoder = HashedText(n_features=4096, n_components=12)
    encoder.fit(pool, tmp_path)
    texts = [pool[i] for i in range(89)]
    counts = HashingVectorizer(n_features=4096, alternate_sign=False, norm=None).transform([*texts, "?!"])
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts).toarray()
    _, _, vectors = np.linalg.svd(weighted, full_matrices=False)
    theirs = weighted[:89] @ vectors[:12].T
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    ours = encoder.encode(texts).numpy()
    assert np.allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-3), "inner products do not depend on signs"


def test_protocol_and_refusals(pool, tmp_path):
    encoder = HashedText()
    assert isinstance(encoder, Encoder)
    check_reads(pool, encoder)
    with pytest.raises(ConfigError, match="hashed_text reads text, and pool .* holds images"):
        check_reads(DigitsPool(), encoder)
    with pytest.raises(ConfigError, match="not fitted"):
        encoder.encode(["x"])
    encoder.fit(pool, tmp_path / "a")
    rows = encoder.encode([pool[i] for i in range(90)])
    assert rows.shape == (90, 128) and rows[:, 14].any() and not rows[:, 15:].any(), "there are 15 words"
    (tmp_path / "t.jsonl").write_text('{"text": "?!"}\n{"text": "..."}\n')
    with pytest.raises(ConfigError, match="no text of 't' has a word"):
        HashedText().fit(JsonlPool(str(tmp_path / "t.jsonl")), tmp_path / "b")
    for wrong in ({"analyzer": "byte"}, {"n_features": 1}, {"n_components": 0}, {"fit_rows": 1}):
        with pytest.raises(ConfigError, match="encoder"):
            HashedText(**wrong)


def test_letters_inside_words(pool, tmp_path):
    encoder = HashedText(n_features=4096, n_components=8, analyzer="char_wb")
    encoder.fit(pool, tmp_path)
    a, b, c = encoder.encode(["harbor", "harbors", "pointer"])
    assert a @ b > 0.7 > 0.3 > a @ c


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT of 2 layers with random weights, and a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *" ".join(WORDS.values()).split()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    ).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=16, **sizes)).save_pretrained(folder)
    return str(folder)


def test_mean_over_the_tokens_of_the_text_not_over_padding(bert):
    encoder = SentenceEncoder(bert)
    assert isinstance(encoder, Encoder) and encoder.dim == 16 and encoder.describe()["transform"]["max_tokens"] == 16
    texts = ["wave", "wave tide salt ship", "bird " * 40]
    tokens = [encoder.transform(text) for text in texts]
    assert [len(ids) for ids in tokens] == [3, 6, 16] and tokens[0] == [2, 4, 3]
    together = encoder.encode(tokens)
    for ids, row in zip(tokens, together):
        states = encoder.module(input_ids=torch.tensor([ids])).last_hidden_state[0]
        mean = states.mean(dim=0)
        assert torch.allclose(row, mean / mean.norm(), atol=1e-5)
    assert torch.allclose(SentenceEncoder(bert, pooling="cls", normalize=False).encode([tokens[0]])[0],
                          encoder.module(input_ids=torch.tensor([tokens[0]])).last_hidden_state[0, 0], atol=1e-6)  # fmt: skip


def test_a_pool_through_the_network(bert, pool, tmp_path):
    embed(pool, SentenceEncoder(bert, max_tokens=8), tmp_path / "s", batch_size=32, progress=False)
    assert EmbeddingStore(tmp_path / "s").shape == (90, 16)


def test_models_that_are_not_there(bert, tmp_path):
    with pytest.raises(ConfigError, match="encoder.model.*hashed_text"):
        SentenceEncoder(str(tmp_path / "nothing"), local_files_only=True)
    with pytest.raises(ConfigError, match="max_tokens"):
        SentenceEncoder(bert, max_tokens=2)
    with pytest.raises(ConfigError, match="pooling"):
        SentenceEncoder(bert, pooling="max")


def test_texts_of_like_length_are_read_together(bert, monkeypatch):
    encoder = SentenceEncoder(bert, max_tokens=None)
    lengths = [2, 14, 3, 14, 2, 9]
    tokens = [[2, *range(4, 4 + length - 2), 3] if length > 2 else [2, 3] for length in lengths]
    alone = torch.cat([encoder.encode([ids]) for ids in tokens])
    seen = []
    inner = SentenceEncoder._encode
    monkeypatch.setattr(
        SentenceEncoder, "_encode", lambda self, part: seen.append(list(map(len, part))) or inner(self, part)
    )
    assert torch.allclose(encoder.encode(tokens), alone, atol=1e-5), "in the order of the batch"
    assert seen == [[2, 2, 3, 9], [14, 14]]
