"""The same augmentations by torchvision's own transforms, image by image on the CPU: slow, and the yardstick of the fast path."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor
from torchvision.transforms import v2

from strata.ssl.image.augment import BLUR_TAPS
from strata.ssl.image.config import ImageSSLConfig


def view_transform(config: ImageSSLConfig, kind: int) -> v2.Compose:
    """A view of one image, float32 [3, h, w] in [0, 1]; kinds 0 and 1 are the global crops, 2 is local.

    Source: `dinov2#data/augmentations.py`.
    """
    size, scale = (config.local_size, config.local_scale) if kind == 2 else (config.global_size, config.global_scale)
    jitter = v2.ColorJitter(config.brightness, config.contrast, config.saturation, config.hue)
    blur = v2.GaussianBlur(BLUR_TAPS, config.blur_sigma)
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.Lambda(lambda x: x.clamp(0.0, 1.0)),  # as uint8 images are: bicubic weights overshoot
            v2.RandomHorizontalFlip(config.flip),
            *([v2.RandomVerticalFlip(config.flip_vertical)] if config.flip_vertical else []),
            *([v2.RandomApply([v2.Lambda(_turned)], config.quarter_turns)] if config.quarter_turns else []),
            v2.RandomApply([jitter], config.jitter),
            v2.RandomGrayscale(config.gray),
            v2.RandomApply([blur], config.blur[kind]),
            v2.RandomSolarize(128 / 255, config.solarize[kind]),
            v2.Normalize(list(config.mean), list(config.std)),
        ]
    )


def _turned(x: Tensor) -> Tensor:
    """By 0 to 3 quarter turns, each as likely."""
    return x.rot90(int(torch.randint(4, ())), (-2, -1))


def torchvision_crops(
    images: UInt8[Tensor, "b 3 s s"],
    config: ImageSSLConfig,
    generator: Generator,
    extents: Int[Tensor, "b 2"] | None,
    rank: int,
    world_size: int,
) -> tuple[Float[Tensor, "2*b 3 g g"], Float[Tensor, "v*b 3 l l"]]:
    """See ``multi_crop``. Each image has a seed of its own, so that a batch may be split over processes."""
    b = len(images)
    seeds = torch.randint(2**62, (b * world_size,), generator=generator)[rank * b : (rank + 1) * b].tolist()
    kinds = (0, 1, *(2,) * config.n_local)
    transforms = {kind: view_transform(config, kind) for kind in set(kinds)}
    views: list[list[Tensor]] = [[] for _ in kinds]
    sizes = [(images.shape[2], images.shape[3])] * b if extents is None else extents.tolist()
    pixels = images.cpu().float() / 255.0
    with torch.random.fork_rng(devices=[]):
        for image, (height, width), seed in zip(pixels, sizes, seeds, strict=True):
            torch.manual_seed(seed)
            for view, kind in zip(views, kinds, strict=True):
                view.append(transforms[kind](image[:, :height, :width]))
    local = [crop for view in views[2:] for crop in view]
    empty = pixels.new_zeros(0, 3, config.local_size, config.local_size)
    stacked = torch.stack([crop for view in views[:2] for crop in view]), torch.stack(local) if local else empty
    return stacked[0].to(images.device), stacked[1].to(images.device)
