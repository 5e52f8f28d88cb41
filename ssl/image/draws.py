"""What is random about a view: drawn on the CPU for the whole global batch, the same for any number of processes.

Each parameter has the distribution that torchvision's transforms give it (`torchvision#transforms/v2`), image by image. One
thing is shared by the images of a view: the order of the four color operations, uniform over the 24.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from strata.ssl.image.config import ImageSSLConfig

_TRIES = 10  # of torchvision's RandomResizedCrop, before it takes the center
_LOG_ASPECT = math.log(4 / 3)  # width / height of a crop lies in [3/4, 4/3], its log uniform
COLOR_OPERATIONS = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class Boxes:
    """Crops in whole pixels, one for each image; float32 so that they can be computed with."""

    top: Float[Tensor, " b"]
    left: Float[Tensor, " b"]
    height: Float[Tensor, " b"]
    width: Float[Tensor, " b"]


@dataclass(frozen=True)
class ViewDraws:
    """The parameters of one view of each image, on the device of the images."""

    boxes: Boxes
    flip: Bool[Tensor, " b"]
    flip_vertical: Bool[Tensor, " b"] | None  # None: no image is
    turns: Int[Tensor, " b"] | None  # quarters of a turn, counterclockwise
    brightness: Float[Tensor, "b bands"]  # factors, 1 where the color is left alone; one band for RGB
    contrast: Float[Tensor, "b bands"]
    saturation: Float[Tensor, " b"]
    hue: Float[Tensor, " b"]  # turns, 0 = left alone
    order: tuple[int, ...]  # of COLOR_OPERATIONS
    gray: Bool[Tensor, " b"]
    blur: Bool[Tensor, " b"]
    sigma: Float[Tensor, " b"]  # pixels
    solarize: Bool[Tensor, " b"]
    any_blur: bool  # known without asking the device
    any_solarize: bool


def draw_view(
    config: ImageSSLConfig,
    kind: int,
    extents: Float[Tensor, "b 2"],
    bands: int,
    generator: Generator,
    part: slice,
    n_global: int,
) -> ViewDraws:
    """Draw one view.

    Args:
        config: sizes, scales, strengths and probabilities.
        kind: 0 and 1 are the global crops, 2 is a local one.
        extents: height and width in pixels of each image of this process.
        bands: channels of the images. Unless they are RGB, brightness and contrast have one factor for each.
        generator: on the CPU. As many numbers are drawn for any split of the global batch.
        part: which images of the global batch these are.
        n_global: images of the global batch.
    """
    rgb = bands == 3 and not config.by_band
    factors = 1 if rgb else bands
    u = torch.rand(n_global, 2 * _TRIES + 10 + 2 * factors, generator=generator)
    order = tuple(torch.randperm(len(COLOR_OPERATIONS), generator=generator).tolist())
    u = u[part].to(extents.device, non_blocking=True)
    vertical, turns = _from_above(config, generator, part, n_global, extents.device)
    any_blur, any_solarize = config.blur[kind] > 0, config.solarize[kind] > 0 and rgb
    tries, place, rest = u.split([2 * _TRIES, 2, u.shape[1] - 2 * _TRIES - 2], dim=1)
    flip, jitter, saturation, hue, gray, blur, sigma, solarize = rest[:, :8].unbind(1)
    jittered = jitter < config.jitter
    brightness, contrast = rest[:, 8:].split(factors, dim=1)
    scale = config.local_scale if kind == 2 else config.global_scale
    low, high = config.blur_sigma
    return ViewDraws(
        boxes=crop_boxes(extents, scale, tries.unflatten(1, (2, _TRIES)), place),
        flip=flip < config.flip,
        flip_vertical=vertical,
        turns=turns,
        brightness=_factor(brightness, config.brightness, jittered[:, None]),
        contrast=_factor(contrast, config.contrast, jittered[:, None]),
        saturation=_factor(saturation, config.saturation, jittered),
        hue=torch.where(jittered, (2 * hue - 1) * config.hue, 0.0),
        order=order,
        gray=gray < config.gray,
        blur=blur < config.blur[kind],
        sigma=low + (high - low) * sigma,
        solarize=solarize < config.solarize[kind],
        any_blur=any_blur,
        any_solarize=any_solarize,
    )


def _from_above(
    config: ImageSSLConfig, generator: Generator, part: slice, n_global: int, device: torch.device
) -> tuple[Bool[Tensor, " b"] | None, Int[Tensor, " b"] | None]:
    """Vertical flips and quarter turns. Nothing is drawn where they are off, so that other recipes keep their draws."""
    if not config.flip_vertical and not config.quarter_turns:
        return None, None
    u = torch.rand(n_global, 3, generator=generator)[part].to(device, non_blocking=True)
    turns = torch.where(u[:, 1] < config.quarter_turns, (u[:, 2] * 4).long(), 0)
    return u[:, 0] < config.flip_vertical, turns


def crop_boxes(
    extents: Float[Tensor, "b 2"],
    scale: tuple[float, float],
    tries: Float[Tensor, "b 2 tries"],
    place: Float[Tensor, "b 2"],
) -> Boxes:
    """The boxes of torchvision's ``RandomResizedCrop.get_params``, for many images at once.

    The area is uniform in ``scale`` (share of the image) and the log of the aspect ratio uniform in that of [3/4, 4/3];
    the first try whose box fits into the image is taken, else the largest box in its center with an allowed ratio.

    Args:
        extents: height and width of each image in pixels.
        scale: smallest and largest area.
        tries: uniform numbers for area and aspect ratio.
        place: uniform numbers for the position.
    """
    # float64: the last bit of a float32 root differs between machines, and rounding would make it a pixel
    extents, tries, place = extents.double(), tries.double(), place.double()
    image_h, image_w = extents[:, :1], extents[:, 1:]
    area = (scale[0] + (scale[1] - scale[0]) * tries[:, 0]) * image_h * image_w
    aspect = ((2 * tries[:, 1] - 1) * _LOG_ASPECT).exp()
    width, height = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (width > 0) & (width <= image_w) & (height > 0) & (height <= image_h)
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)  # the first of equals
    found = fits.any(dim=1)
    height, width = height.gather(1, first)[:, 0], width.gather(1, first)[:, 0]
    image_h, image_w = image_h[:, 0], image_w[:, 0]
    height = torch.where(found, height, torch.minimum(image_h, (image_w * 4 / 3).round()))
    width = torch.where(found, width, torch.minimum(image_w, (image_h * 4 / 3).round()))
    slack_h, slack_w = image_h - height, image_w - width
    top = torch.where(found, torch.minimum((place[:, 0] * (slack_h + 1)).floor(), slack_h), (slack_h / 2).floor())
    left = torch.where(found, torch.minimum((place[:, 1] * (slack_w + 1)).floor(), slack_w), (slack_w / 2).floor())
    return Boxes(top.float(), left.float(), height.float(), width.float())


def _factor(u: Tensor, strength: float, active: Tensor) -> Tensor:
    """Uniform in [max(0, 1 - strength), 1 + strength] where active, else 1."""
    low = max(0.0, 1.0 - strength)
    return torch.where(active, low + (1.0 + strength - low) * u, 1.0)
