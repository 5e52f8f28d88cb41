"""Settings of the image SSL trainer: everything that changes its result, and nothing that does not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from strata.curation.errors import ConfigError
from strata.ssl.image.alarm import AlarmConfig
from strata.ssl.image.methods import MAEConfig, check_method


@dataclass
class ImageSSLConfig:
    """DINOv2's recipe. Comments give the public value for ViT-L/14 on ImageNet-22k (`dinov2#configs/train/vitl14.yaml`
    over `ssl_default_config.yaml`), in steps of 1250 per "epoch"; `configs/ssl/dinov2_vitl_paper.yaml` holds them all.

    Raises:
        ConfigError: a value is out of range; its field is ``ssl.<name>``.
    """

    method: str = "dinov2"  # dinov2; or "simclr", "mae": they read the model, data, crops, augmentation and optimizer

    # Model: a name that timm knows as a VisionTransformer, and what to change about it
    backbone: str = "vit_small_patch16_224"  # ViT-L/14 with SwiGLU, LayerScale 1e-5; 4 registers in the curation paper
    model_kwargs: dict[str, Any] = field(default_factory=dict)  # timm keywords: patch_size, embed_dim, reg_tokens, ...

    in_chans: int = 3  # 3; bands of an image, each with its own mean and std
    drop_path: float = 0.0  # 0.4; share of the images whose residual a block of the student leaves out
    drop_path_uniform: bool = True  # True; else rising from 0 at the first block to drop_path at the last

    # dinov2 and timm: 0.02. A random patch embedding gives tokens of about 0.6, which hide where a patch is until the
    # position embedding has grown; in a run of a few hundred steps it never does, so small recipes start near 1
    pos_embed_std: float = 0.02

    # Start: "" = random; a folder of a backbone (ours, timm's or transformers'), a .safetensors file, or timm:NAME
    init_from: str = ""  # ""

    # Length and data
    steps: int = 10_000  # dinov2: 625_000
    batch_size: int = 256  # images per step, over all devices and parts; 3072 (96 GPUs x 32)
    accumulate: int = 1  # 1; parts of a step, one after the other. Centering and KoLeo see the images of one part
    cache_size: int = 256  # pixels; side of the square to which an image is resized once, before cropping
    # ImageNet's; one for each band, of values from 0 to 1 (of tiles: from the band's percentile 0.1 to 99.9). (): the pool's own
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    # Data
    fit: str = (
        "cover"  # how an image gets into the cached square: "cover" cuts its longer side to it, "contain" keeps all
    )
    augment: str = "batched"  # tensors, the whole batch at once, on the device; or "torchvision": its transforms, slow
    sampling: str = "epoch"  # shuffled epochs of the rows; or of a hierarchy: "weighted" draws, "stratified" batches
    temperature: float = 1.0  # of these two: 0 = the rows as they are, to 1 = balanced (Hierarchy.weights)

    # Crops; a scale is a share of the image's area
    global_size: int = 224  # 224
    local_size: int = 96  # 98 (patch 14)
    n_local: int = 8  # 8
    global_scale: tuple[float, float] = (0.32, 1.0)  # (0.32, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.32)  # (0.05, 0.32)

    # Augmentation; a probability is per crop, and of three values the last is for local crops
    flip: float = 0.5  # 0.5
    flip_vertical: float = 0.0  # 0; for pictures from above, as is
    quarter_turns: float = 0.0  # 0; share of crops that are turned by 0, 90, 180 or 270 degrees
    by_band: bool = (
        False  # False; brightness and contrast of each band apart, no color: always so unless there are 3 bands
    )
    jitter: float = 0.8  # 0.8; share of crops whose color is jittered
    brightness: float = 0.4  # 0.4
    contrast: float = 0.4  # 0.4
    saturation: float = 0.2  # 0.2
    hue: float = 0.1  # 0.1
    gray: float = 0.2  # 0.2
    blur: tuple[float, float, float] = (1.0, 0.1, 0.5)  # (1.0, 0.1, 0.5): global 1, global 2, local
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels; (0.1, 2.0)
    solarize: tuple[float, float, float] = (0.0, 0.2, 0.0)  # (0.0, 0.2, 0.0)

    # Losses
    dino_weight: float = 1.0  # 1.0
    ibot_weight: float = 1.0  # 1.0
    koleo_weight: float = 0.1  # 0.1
    koleo_group: int = (
        0  # 32, the images of one GPU; among which neighbors are sought. 0 = all of a part, on all devices
    )
    mask_probability: float = 0.5  # 0.5; share of the global crops of a batch that are masked
    mask_ratio: tuple[float, float] = (0.1, 0.5)  # (0.1, 0.5); share of the patches that a masked crop hides

    # Heads
    n_prototypes: int = 65_536  # 131_072
    head_hidden: int = 2048  # 2048
    head_bottleneck: int = 256  # 384 for DINO
    head_layers: int = 3  # 3
    learned_gain: bool = (
        False  # True: the prototypes' lengths are learned (weight norm's g); else they stay 1, as in DINO
    )
    ibot_separate_head: bool = True  # True; else the DINO head also reads the patches
    ibot_n_prototypes: int = 65_536  # 131_072
    ibot_bottleneck: int = 256  # 256

    # Teacher
    centering: str = "sinkhorn"  # sinkhorn; or "softmax": running mean, as DINO; or "none": collapses, for ablations
    sinkhorn_iterations: int = 3  # 3
    center_momentum: float = 0.9  # 0.9 (used by softmax only)
    student_temperature: float = 0.1  # 0.1
    teacher_temperature_start: float = 0.04  # 0.04
    teacher_temperature: float = 0.07  # 0.07
    teacher_temperature_steps: int = 3_000  # 37_500; linear from start to end over these, then constant
    momentum: float = 0.992  # 0.994; of the teacher's average, cosine to momentum_end
    momentum_end: float = 1.0  # 1.0

    # Optimizer: AdamW
    base_lr: float = 2e-4  # 2e-4 at batch 1024, scaled by sqrt(batch_size / 1024); cosine to min_lr
    min_lr: float = 1e-6  # 1e-6
    warmup_steps: int = 1_000  # 100_000
    weight_decay: float = 0.04  # 0.04, cosine to weight_decay_end
    weight_decay_end: float = 0.2  # 0.2
    betas: tuple[float, float] = (0.9, 0.999)  # (0.9, 0.999)
    layer_decay: float = 0.9  # 1.0 for ViT-L/14 (0.9 for the short recipe): lr of block i x layer_decay^(depth - i)
    patch_embed_lr: float = 0.2  # 0.2; factor on the lr of the patch embedding
    freeze_last_layer_steps: int = 100  # 1250; the prototypes' lr is 0 for these
    clip_grad: float = 3.0  # 3.0; norm, of the backbone and of each head apart; 0 = off
    precision: str = "32-true"  # fp16 with FSDP; here "32-true" or "bf16-mixed" (losses are always float32)

    mae: MAEConfig = field(default_factory=MAEConfig)  # read by method=mae only

    # Watching; it stops a run or adds to its log, and changes nothing else
    alarm: AlarmConfig = field(default_factory=AlarmConfig)  # of collapse
    log_gradients: bool = False  # gradient norm of each loss at logged steps; costs a backward pass for each

    # How it is run; the result is the same up to rounding, so none of these is part of a stage's key
    strategy: str = "ddp"  # FSDP; across devices: "ddp", or "fsdp" (weights and optimizer spread over them)
    devices: int = 1  # 8; processes on each machine, one per GPU
    num_nodes: int = 1  # 12; machines
    compile: bool = False  # False; torch.compile of blocks and heads
    recompute: bool = (
        False  # False; activations of the student again in the backward pass: less memory, a third more time
    )
    checkpoint_every: int = 500  # steps

    @property
    def lr(self) -> float:
        """Peak learning rate after the square-root scaling with the batch size."""
        return self.base_lr * math.sqrt(self.batch_size / 1024)

    def __post_init__(self) -> None:
        """Check each field by itself and against the others; the model is checked where it is made, in backbone.py."""
        # A config file gives lists; the fields are tuples
        for name in (
            "mean",
            "std",
            "global_scale",
            "local_scale",
            "blur",
            "blur_sigma",
            "solarize",
            "mask_ratio",
            "betas",
        ):
            setattr(self, name, tuple(getattr(self, name)))
        self.model_kwargs = dict(self.model_kwargs)
        self.mae = MAEConfig(**self.mae) if isinstance(self.mae, Mapping) else self.mae
        self.alarm = AlarmConfig(**self.alarm) if isinstance(self.alarm, Mapping) else self.alarm
        check_method(self)
        self._check_counts()
        self._check_shares()
        self._check_reals()
        self._check_choices()
        self._check_bands()
        self._check_split()

    def _check_counts(self) -> None:
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"ssl.{name}", f"is {value!r}", f"give a whole number of at least {least}")
        for name in ("global_size", "local_size") if self.n_local else ("global_size",):
            if getattr(self, name) > self.cache_size:
                raise ConfigError(
                    f"ssl.{name}",
                    f"a crop of {getattr(self, name)} px is larger than the cached image of {self.cache_size} px",
                    "lower it or raise ssl.cache_size",
                )
        for name in ("warmup_steps", "teacher_temperature_steps", "freeze_last_layer_steps"):
            if getattr(self, name) > self.steps:
                raise ConfigError(f"ssl.{name}", f"{getattr(self, name)} exceeds ssl.steps={self.steps}", "lower it")

    def _check_shares(self) -> None:
        for name in (
            "flip",
            "flip_vertical",
            "quarter_turns",
            "jitter",
            "gray",
            "mask_probability",
            "momentum",
            "momentum_end",
            "center_momentum",
            "temperature",
            "drop_path",
        ):
            _within(name, getattr(self, name), 0.0, 1.0)
        _within("hue", self.hue, 0.0, 0.5)  # half a turn is every hue
        for name, length in (("blur", 3), ("solarize", 3), ("betas", 2)):
            values = getattr(self, name)
            if len(values) != length:
                raise ConfigError(f"ssl.{name}", f"has {len(values)} values", f"give {length}")
            for value in values:
                _within(name, value, 0.0, 1.0)
        for name in ("global_scale", "local_scale", "mask_ratio", "blur_sigma"):
            values = getattr(self, name)
            top = 1.0 if name != "blur_sigma" else float(self.cache_size)
            if len(values) != 2 or not 0.0 < values[0] <= values[1] <= top:
                raise ConfigError(f"ssl.{name}", f"is {values}", f"give (low, high) with 0 < low <= high <= {top:g}")

    def _check_reals(self) -> None:
        for name in ("brightness", "contrast", "saturation", "dino_weight", "ibot_weight", "koleo_weight", "min_lr"):
            _within(name, getattr(self, name), 0.0, math.inf)
        for name in ("weight_decay", "weight_decay_end", "clip_grad", "patch_embed_lr", "pos_embed_std"):
            _within(name, getattr(self, name), 0.0, math.inf)
        for name in (
            "student_temperature",
            "teacher_temperature_start",
            "teacher_temperature",
            "base_lr",
            "layer_decay",
        ):
            _within(name, getattr(self, name), 1e-12, math.inf)
        _within("drop_path", self.drop_path, 0.0, 0.99)
        if self.dino_weight + self.ibot_weight == 0:
            raise ConfigError("ssl.dino_weight", "no loss teaches the student", "raise dino_weight or ibot_weight")

    def _check_choices(self) -> None:
        for name, choices in (
            ("centering", ("sinkhorn", "softmax", "none")),
            ("precision", ("32-true", "bf16-mixed")),
            ("fit", ("cover", "contain")),
            ("augment", ("batched", "torchvision")),
            ("sampling", ("epoch", "weighted", "stratified")),
            ("strategy", ("ddp", "fsdp")),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(f"ssl.{name}", f"is {getattr(self, name)!r}", f"give one of {', '.join(choices)}")

    def _check_bands(self) -> None:
        for name in ("mean", "std"):
            count = len(getattr(self, name))
            if count != self.in_chans and (self.mean or self.std):
                raise ConfigError(
                    f"ssl.{name}", f"has {count} values for ssl.in_chans={self.in_chans}", "give one for each band"
                )
        if not all(value > 0 for value in self.std):
            raise ConfigError("ssl.std", f"is {self.std}", "give positive values")
        if self.in_chans == 3 and not self.by_band:
            return
        for name in ("saturation", "hue", "gray", "solarize"):  # to be switched off, not skipped in silence
            if np.any(getattr(self, name)):
                raise ConfigError(f"ssl.{name}", f"is for RGB, not for {self.in_chans} bands", "set it to 0")
        if self.augment == "torchvision":
            raise ConfigError("ssl.augment", "torchvision's transforms are for RGB", "use batched")

    def _check_split(self) -> None:
        processes = self.devices * self.num_nodes
        passes = processes * self.accumulate
        if self.batch_size % passes:
            raise ConfigError(
                "ssl.batch_size",
                f"{self.batch_size} images cannot be dealt evenly to {processes} processes x {self.accumulate} parts",
                f"give a multiple of {passes}",
            )
        if self.koleo_group and (self.batch_size // self.accumulate) % self.koleo_group:
            raise ConfigError(
                "ssl.koleo_group",
                f"{self.koleo_group} does not divide the {self.batch_size // self.accumulate} images of a part",
                "give a divisor, or 0 for all",
            )
        if self.ibot_weight > 0 and self.mask_probability == 0:
            raise ConfigError(
                "ssl.mask_probability", "is 0, so iBOT has nothing to predict", "raise it or set ssl.ibot_weight=0"
            )


# Settings that change how a run is done or watched, and its result by rounding at most
HOW_IT_RUNS = (
    "checkpoint_every",
    "strategy",
    "devices",
    "num_nodes",
    "compile",
    "recompute",
    "alarm",
    "log_gradients",
)

_COUNTS = {
    "steps": 1, "batch_size": 1, "cache_size": 1, "global_size": 1, "local_size": 1, "n_local": 0, "n_prototypes": 2,
    "head_hidden": 1, "head_bottleneck": 1, "head_layers": 1, "ibot_n_prototypes": 2, "ibot_bottleneck": 1,
    "sinkhorn_iterations": 1, "teacher_temperature_steps": 0, "warmup_steps": 0, "freeze_last_layer_steps": 0,
    "checkpoint_every": 1, "in_chans": 1, "accumulate": 1, "koleo_group": 0, "devices": 1, "num_nodes": 1,
}  # fmt: skip


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        limit = f"between {low:g} and {high:g}" if high < math.inf else f"of at least {low:g}"
        raise ConfigError(f"ssl.{name}", f"is {value}", f"give a number {limit}")
