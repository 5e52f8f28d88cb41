"""The tokenizer and the tokens of a pool."""

import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from strata.curation.artifact import read_manifest
from strata.curation.errors import ConfigError
from strata.curation.pools.digits import DigitsPool
from strata.curation.pools.jsonl import JsonlPool
from strata.curation.text.tokenizer import BOS, EOS, encode_texts, open_tokenizer, take_tokenizer, train_tokenizer
from strata.curation.text.tokens import TokenStore, tokenize

TEXTS = [f"the cat number {i} sat on the mat and saw {i * 7} mice" for i in range(80)] + [
    f"a text with {BOS} and {EOS} and <s>mark-up</s> in it",
    "naïve café — 東京 🙂 \x00 tabs\tand\nlines",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "t.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    pool = JsonlPool(str(folder / "t.jsonl"))
    train_tokenizer(pool, folder / "tokenizer", vocab_size=280)
    tokenize(pool, folder / "tokenizer", folder / "tokens", progress=False)
    return folder, pool


def test_transformers_opens_the_tokenizer_and_every_text_comes_back(made):
    tokenizer = AutoTokenizer.from_pretrained(made[0] / "tokenizer")
    assert (tokenizer.bos_token, tokenizer.eos_token, len(tokenizer)) == (BOS, EOS, 280)
    ids = tokenizer("the cat")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and tokenizer.eos_token_id not in ids
    for text, ids in zip(TEXTS, encode_texts(open_tokenizer(made[0] / "tokenizer"), TEXTS)):
        assert tokenizer.decode(ids) == text


def test_special_tokens_written_in_a_text_are_plain_text(made):
    store = TokenStore.open(made[0] / "tokens")
    assert not np.isin(np.asarray(store.tokens), [store.bos_id, store.eos_id]).any()
    tokenizer = open_tokenizer(made[0] / "tokenizer")
    encode_texts(tokenizer, ["x"])
    assert tokenizer.encode(EOS, add_special_tokens=False) == [store.eos_id], "the tokenizer itself is left as it was"


def test_store_holds_every_document(made):
    store, tokenizer = TokenStore.open(made[0] / "tokens"), open_tokenizer(made[0] / "tokenizer")
    assert len(store) == len(TEXTS) and store.tokens.dtype == np.uint16
    assert store.n_bytes.tolist() == [len(text.encode()) for text in TEXTS]
    for row in (0, 40, 80, 81):
        assert tokenizer.decode(store.document(row).tolist()) == TEXTS[row]
    assert store.lengths.sum() == len(store.tokens) == read_manifest(made[0] / "tokens")["n_tokens"]


def test_training_repeats_and_a_digit_is_a_token(made, tmp_path):
    train_tokenizer(made[1], tmp_path / "again", vocab_size=280)
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (
        made[0] / "tokenizer" / "tokenizer.json"
    ).read_bytes()
    assert len(encode_texts(open_tokenizer(tmp_path / "again"), ["2024"])[0]) == 4


def test_a_given_tokenizer_is_taken_as_it_is(made, tmp_path):
    take_tokenizer(str(made[0] / "tokenizer"), tmp_path / "given")
    told = read_manifest(tmp_path / "given", "tokenizer")
    assert (told["vocab_size"], told["bos_id"], told["eos_id"]) == (280, 0, 1)
    assert encode_texts(open_tokenizer(tmp_path / "given"), TEXTS[:3]) == encode_texts(
        open_tokenizer(made[0] / "tokenizer"), TEXTS[:3]
    )
    with pytest.raises(ConfigError, match="text.tokenizer.path: .*nowhere"):
        take_tokenizer(str(tmp_path / "nowhere"), tmp_path / "x")


def test_what_cannot_be_is_refused(made, tmp_path):
    with pytest.raises(ConfigError, match="vocab_size: 100; give at least 258"):
        train_tokenizer(made[1], tmp_path / "x", vocab_size=100)
    with pytest.raises(ConfigError, match="holds images"):
        train_tokenizer(DigitsPool(split="train"), tmp_path / "x", vocab_size=280)
    with pytest.raises(ConfigError, match="holds images"):
        tokenize(DigitsPool(split="train"), made[0] / "tokenizer", tmp_path / "x")
    assert not list(tmp_path.iterdir())
