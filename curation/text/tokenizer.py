"""Byte-level BPE trained on a pool, or a tokenizer that is given: one folder that AutoTokenizer opens."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from strata.curation.artifact import create_artifact, read_manifest
from strata.curation.errors import ConfigError
from strata.curation.pools.base import Pool
from strata.curation.pools.content import kind_of

BOS, EOS = "<|bos|>", "<|eos|>"  # not <s>: web texts hold that as mark-up
_CHUNK = 1000  # texts handed to the Rust trainer at a time


def train_tokenizer(
    pool: Pool,
    out: str | Path,
    *,
    vocab_size: int,
    min_frequency: int = 2,
    max_documents: int | None = None,
    seed: int = 0,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
) -> Path:
    """Train byte-level BPE (GPT-2's pre-tokenizer; digits one by one, as LLaMA) and write an artifact "tokenizer".

    Every string has an encoding and decodes to itself. A special token that is written out in a text is no special
    token there: texts are encoded by ``encode_texts``. ``tokenizer(text)`` puts the first special token in front, as
    LLaMA's does.

    Args:
        pool: texts.
        out: the folder to make: ``tokenizer.json``, ``tokenizer_config.json``.
        vocab_size: entries, the 256 bytes and 2 special tokens included. A small pool may give fewer.
        min_frequency: pairs seen less often are not merged.
        max_documents: train on so many random documents; None: on all.
        seed: of that draw.
        key, inputs, config: see ``create_artifact``.

    Raises:
        ConfigError: a pool of other items than texts, or a vocabulary that cannot be.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    check_tokenizer_settings(vocab_size, min_frequency, max_documents)
    if kind_of(pool) != "text":
        raise ConfigError("text.tokenizer.pool", f"{pool.name!r} holds {kind_of(pool)}", "use a pool of texts")
    rows = np.arange(len(pool))
    if max_documents is not None and max_documents < len(pool):
        rows = np.sort(np.random.default_rng(seed).choice(len(pool), max_documents, replace=False))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with create_artifact(out, "tokenizer", key=key, inputs=inputs, config=config) as draft:
        batches = (
            [pool[row] for row in rows[start : start + _CHUNK].tolist()] for start in range(0, len(rows), _CHUNK)
        )
        tokenizer.train_from_iterator(batches, trainer, length=len(rows))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
        )
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, clean_up_tokenization_spaces=False
        )
        fast.save_pretrained(draft.path)
        draft.meta.update(
            vocab_size=tokenizer.get_vocab_size(),
            bos_id=tokenizer.token_to_id(BOS),
            eos_id=tokenizer.token_to_id(EOS),
            documents=len(rows),
            pool=pool.describe(),
            source="trained",
        )
    return Path(out)


def take_tokenizer(
    path: str,
    out: str | Path,
    *,
    revision: str | None = None,
    key: str = "",
    inputs: Mapping[str, str] | None = None,
    config: Any = None,
) -> Path:
    """Write a given tokenizer (a folder, or a name on the hub) as an artifact "tokenizer".

    Raises:
        ConfigError: it cannot be opened, or has no token that ends a text. Without a first token the last one is both,
            as GPT-2 has it.
    """
    from transformers import AutoTokenizer

    try:
        given = AutoTokenizer.from_pretrained(path, revision=revision, local_files_only=Path(path).is_dir())
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError("text.tokenizer.path", f"{path!r} cannot be opened ({reason})", "give a folder") from error
    if given.eos_token_id is None or not given.is_fast:
        problem = f"{path!r} has no eos token, or is no fast tokenizer"
        raise ConfigError("text.tokenizer.path", problem, "use one with tokenizer.json and an eos_token")
    with create_artifact(out, "tokenizer", key=key, inputs=inputs, config=config) as draft:
        given.save_pretrained(draft.path)
        bos = given.bos_token_id if given.bos_token_id is not None else given.eos_token_id
        draft.meta.update(vocab_size=len(given), bos_id=bos, eos_id=given.eos_token_id, source=path)
    return Path(out)


def open_tokenizer(path: str | Path) -> Any:
    """The fast tokenizer of an artifact "tokenizer" (a ``PreTrainedTokenizerFast``)."""
    from transformers import AutoTokenizer

    read_manifest(path, "tokenizer")
    return AutoTokenizer.from_pretrained(str(path), local_files_only=True)


def encode_texts(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, no special tokens added, and none made of text that only looks like one."""
    backend = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    backend.no_truncation()
    try:
        return [encoding.ids for encoding in backend.encode_batch(texts, add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = before


def check_tokenizer_settings(vocab_size: Any, min_frequency: Any, max_documents: Any) -> None:
    """Raise a ConfigError for a vocabulary that cannot be trained."""
    least = 256 + 2
    if not isinstance(vocab_size, int) or vocab_size < least:
        problem, fix = f"{vocab_size!r}", f"give at least {least}: the bytes and two special tokens"
        raise ConfigError("text.tokenizer.vocab_size", problem, fix)
    for name, value in (("min_frequency", min_frequency), ("max_documents", max_documents)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigError(f"text.tokenizer.{name}", f"{value!r}", "give a whole number of at least 1")


@contextlib.contextmanager
def one_thread_tokenizer() -> Iterator[None]:
    """Keep the Rust side to one thread, so that a stage takes the threads it was given. The ids are the same."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
