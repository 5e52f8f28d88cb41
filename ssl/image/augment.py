"""DINOv2's augmentations on whole batches of tensors: no per-image Python, the same draws on every device.

A crop with its resize and flip is a pair of small matrices (rows, columns), as is a blur; jitter of the color is one 3x3
matrix and an offset. A batch is then a few batched matrix products, fast on one CPU thread and on a GPU alike.
"""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from strata.ssl.image.config import ImageSSLConfig

_LUMA = (0.299, 0.587, 0.114)
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_LOG_ASPECT = math.log(4 / 3)  # width / height of a crop lies in [3/4, 4/3]


def multi_crop(
    images: UInt8[Tensor, "b 3 s s"],
    config: ImageSSLConfig,
    generator: Generator,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[Float[Tensor, "2*b 3 g g"], Float[Tensor, "v*b 3 l l"]]:
    """Two global crops and ``n_local`` local crops of each image, augmented and normalized; view-major order.

    Args:
        images: the batch, uint8, on any device.
        config: sizes, scales and strengths.
        generator: on the CPU; all parameters are drawn from it, in an order that depends on the shapes only.
        rank, world_size: these are images [rank * b, (rank + 1) * b) of the step's; crops do not depend on the split.
    """
    if world_size > 1:
        b = len(images)
        everyone = images.new_zeros(b * world_size, *images.shape[1:])
        everyone[rank * b : (rank + 1) * b] = images
        crops = multi_crop(everyone, config, generator)
        a, z = (c.unflatten(0, (-1, b * world_size))[:, rank * b : (rank + 1) * b].flatten(0, 1) for c in crops)
        return a, z
    pixels = images.float() / 255.0
    global_crops = [_view(pixels, config, view, generator) for view in (0, 1)]
    local_crops = [_view(pixels, config, 2, generator) for _ in range(config.n_local)]
    empty = pixels.new_zeros(0, config.in_chans, config.local_size, config.local_size)
    return torch.cat(global_crops), torch.cat([*local_crops, empty])


def _view(
    pixels: Float[Tensor, "b 3 s s"], config: ImageSSLConfig, kind: int, generator: Generator
) -> Float[Tensor, "b 3 o o"]:
    """One crop of each image; ``kind`` 0 and 1 are the global ones, 2 is local."""
    size, scale = (config.local_size, config.local_scale) if kind == 2 else (config.global_size, config.global_scale)
    x = random_resized_crop(pixels, size, scale, config.flip, generator)
    if config.in_chans == 3:
        x = color_jitter(x, config, generator)
    x = random_blur(x, config.blur[kind], config.blur_sigma, generator)
    chosen = _bernoulli(x.shape[0], config.solarize[kind], generator).to(x.device)
    x = torch.where(chosen.view(-1, 1, 1, 1) & (x >= 0.5), 1.0 - x, x)
    mean, std = (torch.tensor(v, device=x.device).view(1, -1, 1, 1) for v in (config.mean, config.std))
    return (x - mean) / std


def random_resized_crop(
    pixels: Float[Tensor, "b c s s"], size: int, scale: tuple[float, float], flip: float, generator: Generator
) -> Float[Tensor, "b c size size"]:
    """Crop a random box of each square image, resize it (bilinear, anti-aliased) and maybe mirror it.

    The box's area is uniform in ``scale`` (share of the image); the log of its aspect ratio is uniform over those
    within [3/4, 4/3] that fit, where torchvision draws again until one fits.
    """
    b, side = pixels.shape[0], pixels.shape[-1]
    area = _uniform(b, *scale, generator)
    reach = torch.minimum(-area.log(), torch.tensor(_LOG_ASPECT))
    aspect = (_uniform(b, -1.0, 1.0, generator) * reach).exp()
    width, height = (area * aspect).sqrt() * side, (area / aspect).sqrt() * side
    left = _uniform(b, 0.0, 1.0, generator) * (side - width)
    top = _uniform(b, 0.0, 1.0, generator) * (side - height)
    mirrored = _bernoulli(b, flip, generator)
    rows = _resize_matrix(top, height, size, side)
    columns = _resize_matrix(left, width, size, side)
    columns = torch.where(mirrored.view(-1, 1, 1), columns.flip(1), columns)
    return _separable(pixels, rows, columns)


def color_jitter(x: Float[Tensor, "b 3 h w"], config: ImageSSLConfig, generator: Generator) -> Float[Tensor, "b 3 h w"]:
    """Brightness, contrast, saturation, hue (with probability ``jitter``), then grayscale (with probability ``gray``).

    Differs from torchvision: one fixed order, hue is a rotation in YIQ, and values are clamped once at the end.
    """
    b = x.shape[0]
    active = _bernoulli(b, config.jitter, generator)
    bright = 1 + _uniform(b, -config.brightness, config.brightness, generator) * active
    contrast = 1 + _uniform(b, -config.contrast, config.contrast, generator) * active
    saturation = 1 + _uniform(b, -config.saturation, config.saturation, generator) * active
    angle = 2 * math.pi * _uniform(b, -config.hue, config.hue, generator) * active
    saturation = torch.where(_bernoulli(b, config.gray, generator), 0.0, saturation.clamp(min=0.0))
    gain = (bright.clamp(min=0.0) * contrast.clamp(min=0.0)).view(-1, 1, 1)
    # Gray is a fixed point of both matrices, so the contrast's offset passes through them unchanged
    matrix = (gain * (_hue_matrix(angle) @ _saturation_matrix(saturation))).to(x.device)
    luma = torch.tensor(_LUMA, device=x.device)
    mean_gray = (x.mean(dim=(2, 3)) * luma).sum(dim=1)  # b
    offset = (bright.clamp(min=0.0) * (1 - contrast.clamp(min=0.0))).to(x.device) * mean_gray
    return torch.baddbmm(offset.view(-1, 1, 1), matrix, x.flatten(2)).clamp_(0.0, 1.0).view_as(x)


def random_blur(
    x: Float[Tensor, "b c h w"], probability: float, sigma: tuple[float, float], generator: Generator
) -> Float[Tensor, "b c h w"]:
    """Gaussian blur of some images, its sigma uniform in pixels; at the border the kernel is cut and renormalized."""
    chosen = _bernoulli(x.shape[0], probability, generator).nonzero().flatten()
    width = _uniform(x.shape[0], *sigma, generator)[chosen]
    if len(chosen) == 0:
        return x
    chosen = chosen.to(x.device)
    rows, columns = (_gauss_matrix(width, side) for side in x.shape[2:])
    return x.index_copy(0, chosen, _separable(x[chosen], rows, columns))


def _separable(
    x: Float[Tensor, "b c h w"], rows: Float[Tensor, "b o h"], columns: Float[Tensor, "b p w"]
) -> Float[Tensor, "b c o p"]:
    """rows @ x @ columns^T, one pair of matrices for each image."""
    b, c, h, w = x.shape
    rows, columns = rows.to(x.device), columns.to(x.device)
    x = torch.bmm(x.reshape(b, c * h, w), columns.transpose(1, 2))  # b c*h p
    x = x.view(b, c, h, -1).transpose(1, 2).reshape(b, h, -1)  # b h c*p
    return torch.bmm(rows, x).view(b, rows.shape[1], c, -1).transpose(1, 2)


def _resize_matrix(
    start: Float[Tensor, " b"], length: Float[Tensor, " b"], size: int, side: int
) -> Float[Tensor, "b size side"]:
    """Triangle-filter weights that read ``size`` samples from [start, start + length) of a row of ``side`` pixels."""
    step = (length / size).view(-1, 1, 1)
    center = start.view(-1, 1, 1) + (torch.arange(size).view(1, -1, 1) + 0.5) * step
    distance = (torch.arange(side).view(1, 1, -1) + 0.5 - center).abs()
    weight = (1 - distance / step.clamp(min=1.0)).clamp_(min=0.0)
    return weight / weight.sum(dim=-1, keepdim=True)


def _gauss_matrix(sigma: Float[Tensor, " b"], side: int) -> Float[Tensor, "b side side"]:
    place = torch.arange(side, dtype=torch.float32)
    squared = (place.view(-1, 1) - place.view(1, -1)).square()
    return torch.softmax(-squared / (2 * sigma.view(-1, 1, 1) ** 2), dim=-1)  # softmax = exp, normalized


def _saturation_matrix(saturation: Float[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
    s = saturation.view(-1, 1, 1)
    return s * torch.eye(3) + (1 - s) * torch.tensor(_LUMA).expand(3, 3)


def _hue_matrix(angle: Float[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
    to_yiq = torch.tensor(_RGB_TO_YIQ)
    turn = torch.eye(3).repeat(len(angle), 1, 1)
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    return torch.linalg.inv(to_yiq) @ turn @ to_yiq


def _uniform(n: int, low: float, high: float, generator: Generator) -> Float[Tensor, " n"]:
    return low + (high - low) * torch.rand(n, generator=generator)


def _bernoulli(n: int, probability: float, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator) < probability
