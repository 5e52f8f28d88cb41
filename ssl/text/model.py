"""The network: a causal language model of transformers, and its loss on packed sequences."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.curation.errors import ConfigError
from strata.ssl.text.config import TextSSLConfig
from strata.ssl.text.linear_cross_entropy import linear_cross_entropy
from strata.ssl.text.packing import Packed
from strata.ssl.text.products import use_products


def model_config(config: TextSSLConfig, vocab_size: int, bos_id: int, eos_id: int) -> Any:
    """The transformers config of a recipe.

    Raises:
        ConfigError: transformers knows no such model type, or no such field of it.
    """
    from transformers import CONFIG_MAPPING

    if config.model_type not in CONFIG_MAPPING:
        raise ConfigError("ssl.model_type", f"{config.model_type!r} is unknown to transformers", "e.g. llama")
    kind: Any = CONFIG_MAPPING[config.model_type]
    known = kind()
    for name in config.model_kwargs:
        if not hasattr(known, name):
            raise ConfigError(f"ssl.model_kwargs.{name}", f"no field of {kind.__name__}", "correct its name")
    lengths = {"max_position_embeddings": config.seq_len} if hasattr(known, "max_position_embeddings") else {}
    settings = {**lengths, **config.model_kwargs}
    if settings.get("max_position_embeddings", config.seq_len) < config.seq_len:
        limit = settings["max_position_embeddings"]
        raise ConfigError("ssl.seq_len", f"{config.seq_len} exceeds max_position_embeddings={limit}", "lower it")
    ids = {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": None}
    return kind(vocab_size=vocab_size, **settings, **ids, use_cache=False)


def create_model(config: TextSSLConfig, vocab_size: int, bos_id: int, eos_id: int, seed: int | None) -> Any:
    """The network with weights that depend on the seed only (None: as torch's generator stands), attention by SDPA.

    Raises:
        ConfigError: see ``model_config``; or transformers cannot make it.
    """
    from transformers import AutoModelForCausalLM

    settings = model_config(config, vocab_size, bos_id, eos_id)
    try:
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(settings, attn_implementation="sdpa")
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError("ssl.model_kwargs", f"the model cannot be made ({reason})", "correct them") from error
    use_products(model)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


class PackedLM(nn.Module):
    """A causal language model and the sum of its losses on a batch: what DDP and FSDP wrap as one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        if getattr(model.get_output_embeddings(), "bias", None) is not None:
            raise ConfigError("ssl.model_type", "its output layer has a bias", "use a model without, e.g. llama")

    def forward(self, batch: Packed, isolated: bool) -> Float[Tensor, ""]:
        """Sum of the losses over all targets, in nats."""
        states = self.hidden_states(batch, isolated)
        weight = self.model.get_output_embeddings().weight
        return linear_cross_entropy(states.flatten(0, 1), weight, batch.targets.flatten())

    def hidden_states(self, batch: Packed, isolated: bool) -> Float[Tensor, "b t d"]:
        """Last hidden states, after the final norm."""
        mask = batch.mask() if isolated else None
        states: Tensor = self.model.base_model(
            input_ids=batch.tokens, attention_mask=mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        return states


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from writing advice and bars to stderr."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
