"""Every recipe of a language model is valid, its network has the size it says, and the paper's one has LLaMA's numbers."""

from pathlib import Path

import pytest
import torch
import yaml

from strata.curation.errors import ConfigError
from strata.ssl.text.config import TextSSLConfig
from strata.ssl.text.flops import flops_per_token
from strata.ssl.text.model import create_model

FOLDER = Path(__file__).parents[2] / "configs" / "ssl"
SIZES = {
    "llama_micro": (4096, 1.33e6),
    "llama_100m": (32000, 110e6),
    "llama_1b": (32000, 1.1e9),
    "llama_7b_paper": (32000, 6.74e9),
}


def recipe(name):
    return TextSSLConfig(**yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


def test_every_recipe_is_listed():
    assert {path.stem for path in FOLDER.glob("llama_*.yaml")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_network_has_the_size_it_says(name):
    vocab, size = SIZES[name]
    with torch.device("meta"):
        model = create_model(recipe(name), vocab, 0, 1, None)
    n = sum(parameter.numel() for parameter in model.parameters())
    assert n == pytest.approx(size, rel=0.02)
    tied = model.config.tie_word_embeddings
    body = n - (0 if tied else vocab * model.config.hidden_size)
    attention = 6 * model.config.num_hidden_layers * model.config.hidden_size * 2048
    assert flops_per_token(model, 2048) == pytest.approx(6 * body + attention)


def test_paper_recipe_is_llama_7b():
    config = recipe("llama_7b_paper")
    assert config.tokens == 210_000_000_000 and config.step_tokens == 4 * 2**20 and config.steps == 50_067
    assert (config.lr, config.min_lr_share, config.warmup_steps, config.weight_decay) == (3e-4, 0.1, 2000, 0.1)
    assert (config.betas, config.clip_grad, config.seq_len) == ((0.9, 0.95), 1.0, 2048)
    assert config.micro_batch(8) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokens": 100}, "ssl.tokens: 100 are less than the 2,048 of one step"),
        ({"packing": "tight"}, "ssl.packing: is 'tight'"),
        ({"lr": 0.0}, "ssl.lr"),
        ({"lr": float("nan")}, "ssl.lr"),
        ({"precision": "16"}, "ssl.precision"),
        ({"warmup_steps": 10**6}, "ssl.warmup_steps"),
        ({"model_kwargs": {"vocab_size": 7}}, "ssl.model_kwargs.vocab_size: is the tokenizer's"),
        ({"micro_batch_size": 0}, "ssl.micro_batch_size"),
        ({"seq_len": 1}, "ssl.seq_len"),
    ],
)
def test_bad_settings_are_named(change, said):
    with pytest.raises(ConfigError) as error:
        TextSSLConfig(**change)
    assert str(error.value).startswith(said)


def test_bad_models_and_cuts_are_named():
    for change, said in (
        ({"model_type": "lama"}, "ssl.model_type: 'lama'"),
        ({"model_kwargs": {"hidden": 3}}, "ssl.model_kwargs.hidden: no field"),
        ({"model_kwargs": {"max_position_embeddings": 16}}, "ssl.seq_len: 256 exceeds max_position_embeddings=16"),
    ):
        with pytest.raises(ConfigError) as error:
            create_model(TextSSLConfig(**change), 300, 0, 1, 0)
        assert str(error.value).startswith(said)
    with pytest.raises(ConfigError, match="do not divide by 3 devices"):
        TextSSLConfig().micro_batch(3)
    with pytest.raises(ConfigError, match="3 does not divide the 4 sequences"):
        TextSSLConfig(micro_batch_size=3).micro_batch(2)
