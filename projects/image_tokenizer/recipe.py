# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A small multi-scale tokenizer, trained on photographs that scikit-image ships; minutes on a CPU.

    pip download --no-deps --only-binary=:all: scikit-image==0.26.0
    unzip -j scikit_image-*.whl 'skimage/data/*' -d photos
    python -m projects.image_tokenizer.recipe photos RUN

Every call goes on where the last one stopped; when all steps are done it measures and draws. RUN/report.json holds
the figures of `docs/codebook.md`.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from fila.conversion.output import written_atomically, written_file
from fila.modeling.configuration_var import VarVQConfig
from fila.modeling.modeling_var_vq import VarVQModel
from fila.processing.image_processing_var import VarImageProcessorPil
from fila.training.checkpoints import last_saved_checkpoint
from fila.training.plots import plot_loss
from fila.training.tokenizer import TokenizerTrainer, restart_codes
from fila.training.tokenizer_report import as_rows, draw_scales, measure, plot_psnr, plot_usage

from .image_crops import ImageCrops, find_images

# Photographs that scikit-image 0.26 ships; its other files are drawings. No scene is on both sides.
TRAINED = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "coffee.png",
    "coins.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
)
HELD_OUT = ("chelsea.png", "grass.png", "moon.png", "rocket.jpg")


def small_config() -> VarVQConfig:
    """Return a config of 16 pixels, four scales and 64 codes, which trains in minutes on one core."""
    return VarVQConfig(
        image_size=16,
        base_channels=16,
        channel_multipliers=[1, 2, 4],
        num_res_blocks=1,
        norm_groups=4,
        codebook_size=64,
        code_size=8,
        patch_nums=[1, 2, 3, 4],
        num_phis=4,
    )


def train(
    photos: Path, run: Path, *, steps: int = 4000, batch_size: int = 16, seed: int = 0, held_out: int = 256
) -> dict[str, Any]:
    """Train or resume, then measure on crops of other photographs.

    Args:
        photos: The folder of scikit-image's data.
        run: The folder of the training run.
        steps: Optimizer steps.
        batch_size: Crops per step.
        seed: Of weights and crops.
        held_out: Crops to measure on.

    Returns:
        The contents of `report.json`.

    Raises:
        ValueError: If one of the photographs is not there.
    """
    paths = {path.name: path for path in find_images(photos)}
    if missing := [name for name in (*TRAINED, *HELD_OUT) if name not in paths]:
        raise ValueError(f"{photos} must hold the photographs of scikit-image 0.26; it lacks {missing}.")
    set_seed(seed)
    model = VarVQModel(small_config())
    size = model.config.image_size
    crops = ImageCrops([paths[name] for name in TRAINED], size, steps * batch_size, seed=seed)
    first = torch.stack([crops[index]["pixel_values"] for index in range(min(64, len(crops)))])
    restart_codes(model, first, torch.ones(model.quantize.codebook_size, dtype=torch.bool))
    arguments = TrainingArguments(
        output_dir=str(run),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        warmup_steps=min(20, steps // 4),
        adam_beta2=0.95,
        weight_decay=0.0,
        logging_steps=max(1, min(20, steps // 4)),
        save_steps=max(1, min(50, steps)),
        save_total_limit=2,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        seed=seed,
    )
    trainer = TokenizerTrainer(model, arguments, train_dataset=crops, restart_steps=10)
    start = time.process_time()
    newest = last_saved_checkpoint(run)
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    spent = time.process_time() - start
    crop = {"height": size, "width": size}
    with written_atomically(run / "final", overwrite=True) as final:
        model.eval().save_pretrained(final)
        VarImageProcessorPil(size={"shortest_edge": size}, crop_size=crop).save_pretrained(final)
    others = ImageCrops([paths[name] for name in HELD_OUT], size, held_out, seed=seed + 1)
    report = describe(model, others, run) | {
        "steps": steps,
        "batch_size": batch_size,
        "cpu_seconds_of_this_call": round(spent, 1),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
        "restarted_codes": trainer.restarted,
    }
    plot_loss(trainer.state.log_history, run / "loss.png", title="Training loss of the small tokenizer")
    with written_file(run / "report.json") as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def describe(model: VarVQModel, crops: ImageCrops, run: Path) -> dict[str, Any]:
    """Measure on crops, and draw."""
    images = torch.stack([crops[index]["pixel_values"] for index in range(len(crops))])
    scales = measure(model, images.split(32))
    title = f"{len(images)} crops of held-out photographs"
    plot_psnr(scales, run / "psnr.png", title=f"Reconstruction scale by scale, {title}")
    plot_usage(scales, model.config.codebook_size, run / "usage.png", title=f"Codes each scale takes, {title}")
    draw_scales(model, images[:6], run / "scales.png", zoom=6)
    mean = images.mean(dim=(2, 3), keepdim=True)
    flat = -10 * torch.log10(((images - mean) / 2).square().mean())
    return {"scales": as_rows(scales), "psnr_of_mean_colour": round(float(flat), 2)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of scikit-image's photographs, as above")
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.run.mkdir(parents=True, exist_ok=True)
    train(given.photos, given.run, steps=given.steps, batch_size=given.batch_size, seed=given.seed)
