"""Settings of the causal language model trainer: everything that changes its result, and how it is spread over devices."""

import math
from dataclasses import dataclass, field
from typing import Any

from strata.curation.errors import ConfigError


@dataclass
class TextSSLConfig:
    """LLaMA's recipe (arXiv:2302.13971, section 2): the paper trains "as LLaMA-1". Comments give its values for 7B.

    Raises:
        ConfigError: a value is out of range; its field is ``ssl.<name>``.
    """

    # Model: a model type of transformers, and the fields of its config. The vocabulary comes from the tokenizer
    model_type: str = "llama"
    model_kwargs: dict[str, Any] = field(default_factory=dict)  # hidden_size, num_hidden_layers, ...

    # Length and data
    tokens: int = 1_000_000  # budget of every arm, rounded down to whole steps; paper: 210e9
    seq_len: int = 256  # tokens of a sequence; 2048
    batch_size: int = 8  # sequences per optimizer step, over all devices; 2048 (4M tokens)
    packing: str = "isolated"  # "isolated": a document sees itself only; "joined": what is before it too, as LLaMA

    # Optimizer: AdamW
    lr: float = 3e-4  # 3e-4, cosine to min_lr_share of it
    min_lr_share: float = 0.1  # 0.1
    warmup_steps: int = 100  # 2000
    weight_decay: float = 0.1  # 0.1, on matrices only
    betas: tuple[float, float] = (0.9, 0.95)  # (0.9, 0.95)
    eps: float = 1e-8
    clip_grad: float = 1.0  # 1.0; norm; 0 = off
    precision: str = "32-true"  # "32-true", "bf16-mixed" or "bf16-true"

    # How it is computed: moves a result in its last bits only
    micro_batch_size: int | None = None  # sequences of one pass on one device; None: as many as the batch gives
    gradient_checkpointing: bool = False
    devices: int = 1  # of this machine; more than one run as processes of torchrun
    strategy: str = "auto"  # "auto": one device, or DDP on several; "fsdp": weights and optimizer state sharded
    checkpoint_every: int = 500  # steps

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch_size * self.seq_len

    @property
    def steps(self) -> int:
        """Optimizer steps: the budget in whole batches."""
        return self.tokens // self.step_tokens

    def micro_batch(self, world: int) -> int:
        """Sequences of one pass on one of ``world`` devices.

        Raises:
            ConfigError: the batch cannot be cut so.
        """
        if self.batch_size % world:
            problem = f"{self.batch_size} sequences do not divide by {world} devices"
            raise ConfigError("ssl.batch_size", problem, "use a multiple of the devices")
        share = self.batch_size // world
        micro = share if self.micro_batch_size is None else min(self.micro_batch_size, share)
        if share % micro:
            problem = f"{micro} does not divide the {share} sequences of a device"
            raise ConfigError("ssl.micro_batch_size", problem, "use a divisor of batch_size / devices")
        return micro

    def __post_init__(self) -> None:
        """Check each field; the model is checked where it is made, in model.py."""
        self.betas = (float(self.betas[0]), float(self.betas[1]))
        self.model_kwargs = dict(self.model_kwargs)
        self._check_counts()
        for name in ("lr", "eps"):
            self._within(name, getattr(self, name), 1e-30, math.inf)
        for name in ("weight_decay", "clip_grad"):
            self._within(name, getattr(self, name), 0.0, math.inf)
        for name, value in (("min_lr_share", self.min_lr_share), ("betas", self.betas[0]), ("betas", self.betas[1])):
            self._within(name, value, 0.0, 1.0)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"ssl.{name}", f"is {getattr(self, name)!r}", f"give one of {', '.join(choices)}")
        if "vocab_size" in self.model_kwargs:
            raise ConfigError("ssl.model_kwargs.vocab_size", "is the tokenizer's", "set text.tokenizer.vocab_size")

    def _check_counts(self) -> None:
        least = {"tokens": 1, "seq_len": 2, "batch_size": 1, "warmup_steps": 0, "devices": 1, "checkpoint_every": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ConfigError(f"ssl.{name}", f"is {value!r}", f"give a whole number of at least {low}")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ConfigError("ssl.micro_batch_size", f"is {self.micro_batch_size}", "give at least 1, or null")
        if self.steps < 1:
            problem = f"{self.tokens:,} are less than the {self.step_tokens:,} of one step"
            raise ConfigError("ssl.tokens", problem, "raise it, or lower batch_size or seq_len")
        if self.warmup_steps > self.steps:
            raise ConfigError("ssl.warmup_steps", f"{self.warmup_steps} exceeds the {self.steps} steps", "lower it")

    def _within(self, name: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:  # also refuses NaN
            limit = f"between {low:g} and {high:g}" if high < math.inf else f"of at least {low:g}"
            raise ConfigError(f"ssl.{name}", f"is {value}", f"give a number {limit}")


_CHOICES = {
    "packing": ("isolated", "joined"),
    "precision": ("32-true", "bf16-mixed", "bf16-true"),
    "strategy": ("auto", "fsdp"),
}
# How it is computed, not what: no part of a stage's key
UNKEYED_TEXT = ("checkpoint_every", "micro_batch_size", "gradient_checkpointing", "devices", "strategy")
