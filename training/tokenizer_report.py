# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Report of a multi-scale tokenizer: reconstruction quality and use of codes per scale, with pictures."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fila.conversion.output import written_file
from fila.modeling.modeling_var_vq import VarVQModel

from .plots import new_axes


@dataclass(frozen=True)
class ScaleReport:
    """Figures of one scale.

    Attributes:
        scale: From 0.
        patches: Per side.
        tokens: Ids of an image up to and with this scale.
        psnr: In dB, of the reconstructions out of the scales up to this one, over all pixels.
        usage: Share of the codes that this scale takes at least once.
        perplexity: 2 to the entropy of the codes it takes: how many it would be if it took them evenly.
    """

    scale: int
    patches: int
    tokens: int
    psnr: float
    usage: float
    perplexity: float


@torch.no_grad()
def measure(model: VarVQModel, batches: Iterable[torch.Tensor]) -> list[ScaleReport]:
    """Reconstruct images from every prefix of the scales, and count the codes.

    Args:
        model: The tokenizer, in evaluation.
        batches: `(B, 3, H, W)` in -1..1 each.

    Raises:
        ValueError: If there is no image.
    """
    grids = model.quantize.patch_nums
    errors, pixels = np.zeros(len(grids)), 0
    counts = torch.zeros(len(grids), model.quantize.codebook_size)
    for images in batches:
        ids, maps = model.quantize.encode(model.features(images))
        for scale, (found, fhat) in enumerate(zip(ids, maps, strict=True)):
            difference = (model.draw(fhat).clamp(-1, 1) - images) / 2
            errors[scale] += float(difference.square().sum())
            counts[scale] += found.flatten().bincount(minlength=counts.shape[1])
        pixels += images.numel()
    if not pixels:
        raise ValueError("There must be an image to measure; `batches` held none.")
    reports, tokens = [], 0
    for scale, (rows, cols) in enumerate(grids):
        tokens += rows * cols
        shares = counts[scale] / counts[scale].sum()
        entropy = float(-(shares * shares.clamp(min=1e-30).log2()).sum())
        psnr = -10 * math.log10(max(errors[scale] / pixels, 1e-12))
        usage = float((counts[scale] > 0).float().mean())
        reports.append(ScaleReport(scale, rows, tokens, psnr, usage, 2**entropy))
    return reports


def as_rows(reports: Sequence[ScaleReport]) -> list[dict[str, Any]]:
    """Convert reports to rows for JSON."""
    return [asdict(report) for report in reports]


def plot_psnr(reports: Sequence[ScaleReport], path: Path, *, title: str) -> Path:
    """Draw PSNR over the tokens spent."""
    figure, axes = new_axes(title)
    axes.plot([report.tokens for report in reports], [report.psnr for report in reports], marker="o")
    for report in reports:
        axes.annotate(
            f"{report.patches}x{report.patches}",
            (report.tokens, report.psnr),
            textcoords="offset points",
            xytext=(6, -10),
        )
    axes.set(xlabel="ids per image, up to a scale", ylabel="PSNR in dB")
    with written_file(path) as partial:
        figure.savefig(partial, format="png")
    return path


def plot_usage(reports: Sequence[ScaleReport], codebook_size: int, path: Path, *, title: str) -> Path:
    """Draw the share of the codebook that each scale uses, and how evenly."""
    figure, axes = new_axes(title)
    places = np.arange(len(reports))
    axes.bar(places - 0.2, [100 * report.usage for report in reports], 0.4, label="taken at least once")
    evenness = [100 * report.perplexity / codebook_size for report in reports]
    axes.bar(places + 0.2, evenness, 0.4, label="perplexity")
    axes.set(xlabel="scale", ylabel=f"% of {codebook_size} codes", ylim=(0, 100))
    axes.set_xticks(places, [f"{report.patches}x{report.patches}" for report in reports])
    axes.legend(frameon=False)
    with written_file(path) as partial:
        figure.savefig(partial, format="png")
    return path


@torch.no_grad()
def draw_scales(model: VarVQModel, images: torch.Tensor, path: Path, *, zoom: int = 3) -> Path:
    """Write one row per image: the image, then its reconstruction from each prefix of the scales.

    Args:
        model: The tokenizer.
        images: `(B, 3, H, W)` in -1..1.
        path: PNG to write.
        zoom: Dots per pixel.
    """
    columns = torch.stack([images, *model.reconstruct(images, every_scale=True)], dim=1)
    framed = torch.nn.functional.pad(columns, (1, 1, 1, 1), value=1.0)  # white lines between
    sheet = framed.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    pixels = ((sheet.cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels)
    with written_file(path) as partial:
        picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(partial, "PNG")
    return path
