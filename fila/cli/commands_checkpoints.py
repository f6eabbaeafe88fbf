# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The commands that make and check checkpoints: assemble, verify, recipes, import, export."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fila.cli.common import Debug, Trust, app, one_line_errors, print_table, read_options, say

# Values of `--system`; a copy, because the table of systems imports torch. A test compares both.
IMPORTED = (
    "cogvlm2-video",
    "deepseek-ocr",
    "deepseek-vl-hybrid",
    "eagle",
    "eagle2",
    "eagle2-small",
    "granite4-vision",
    "internvl",
    "leo",
    "llava-hr",
    "llava-next",
    "llava-uhd",
    "mini-gemini",
    "minicpm-v-2.6",
    "minicpm-v-4.6",
    "var",
    "videollama2",
)
MAX_SHARD = "5GB"

LEFT_OPEN = "JSON object: what recipe and source leave open of"
Shards = Annotated[str, typer.Option(help="Largest weight file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]


@app.command()
@one_line_errors
def assemble(
    low_res: Annotated[str, typer.Option(help="CLIP, SigLIP, DINOv2 or InternViT checkpoint: folder or Hub id.")],
    text: Annotated[str, typer.Option(help="Language model: folder, Hub id or GGUF file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    high_res: Annotated[
        str | None,
        typer.Option(
            help="ConvNeXt, SAM, Pix2Struct or ViT checkpoint: folder or Hub id. None goes with `--fusion none`."
        ),
    ] = None,
    high_res_init: Annotated[
        str | None, typer.Option(help="Start the high-res tower from random weights: a size such as convnext-femto.")
    ] = None,
    text_gguf_file: Annotated[str | None, typer.Option(help="GGUF file in the Hub repository of --text.")] = None,
    fusion: Annotated[
        str | None, typer.Option(help="Name, or JSON object with `type` and options; cvfm if not given.")
    ] = None,
    connector: Annotated[
        str | None, typer.Option(help="Name, or JSON object with `type` and options; mlp if not given.")
    ] = None,
    injection: Annotated[
        str | None, typer.Option(help="JSON object with `type` and options; none if not given.")
    ] = None,
    canvas: Annotated[
        str | None, typer.Option(help="Name, or JSON object with `type` and options; fila if not given.")
    ] = None,
    vision_feature_layer: Annotated[
        int, typer.Option(help="Layer of the low-res tower to read; -1 is the last, 1 the first.")
    ] = -2,
    tile_size: Annotated[
        int | None, typer.Option(help="Pixels per side of one view; the low-res tower's own if not given.")
    ] = None,
    high_res_tile_size: Annotated[
        int | None, typer.Option(help="High-res pixels per side of one view; what fits the towers if not given.")
    ] = None,
    high_res_overview: Annotated[
        str, typer.Option(help="pool, interpolate or encode: the overview's high-res features.")
    ] = "pool",
    image_token: Annotated[str, typer.Option(help="Placeholder of an image.")] = "<image>",
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; the language model's if not given.")
    ] = None,
    max_shard_size: Annotated[str, typer.Option(help="Largest weight file.")] = "5GB",
    seed: Annotated[int, typer.Option(help="Seed of the new weights.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    debug: Debug = False,
) -> None:
    """Assemble a checkpoint from pretrained parts.

    The parts are a low-res tower, a high-res tower and a language model; fusion and connector are new and untrained.
    """
    from fila.cli.library_messages import quiet
    from fila.conversion.assemble import assemble as assemble_parts

    with quiet():
        folder = assemble_parts(
            low_res,
            high_res,
            text,
            output,
            high_res_init=high_res_init,
            text_gguf_file=text_gguf_file,
            fusion=read_options(fusion) if fusion else None,
            connector=read_options(connector) if connector else None,
            injection=read_options(injection) if injection else None,
            canvas=read_options(canvas) if canvas else None,
            vision_feature_layer=vision_feature_layer,
            tile_size=tile_size,
            high_res_tile_size=high_res_tile_size,
            high_res_overview=high_res_overview,
            image_token=image_token,
            dtype=dtype,
            max_shard_size=max_shard_size,
            seed=seed,
            overwrite=overwrite,
            progress=sys.stderr.isatty(),
        )
    typer.echo(folder)


@app.command()
@one_line_errors
def verify(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    forward: Annotated[bool, typer.Option(help="Also open it in a fresh offline process and run it once.")] = True,
    values: Annotated[bool, typer.Option("--values", help="Also look for NaN and infinity in every weight.")] = False,
    adapter: Annotated[
        list[Path] | None, typer.Option(help="Adapter of PEFT: also check that vLLM serves it whole; may be repeated.")
    ] = None,
    trust_remote_code: Trust = False,
    debug: Debug = False,
) -> None:
    """Prove that a checkpoint is complete and runs.

    Ends with status 1 if a check fails.
    """
    from fila.conversion.verify import verify as verify_checkpoint

    checks = verify_checkpoint(
        checkpoint, forward=forward, values=values, adapters=adapter or (), trust_remote_code=trust_remote_code
    )
    print_table([["ok" if check.ok else "FAILED", check.name, " ".join(check.detail.split())] for check in checks])
    if failed := sum(not check.ok for check in checks):
        say(f"error: {failed} of {len(checks)} checks failed for {checkpoint}.")
        raise typer.Exit(1)


@app.command()
@one_line_errors
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one as JSON.")] = None,
    debug: Debug = False,
) -> None:
    """List the systems that have a recipe."""
    from fila.systems.recipes import as_rows, load_recipe, recipe_names

    if name is None:
        print_table(as_rows([load_recipe(each) for each in recipe_names()]))
    else:
        typer.echo(json.dumps(dataclasses.asdict(load_recipe(name)), indent=2, ensure_ascii=False))


@app.command(name="import")
@one_line_errors
def import_(
    source: Annotated[str, typer.Argument(help="The original: folder or Hub id; VAR: a file.")],
    system: Annotated[str, typer.Option(help=f"{', '.join(IMPORTED[:-1])} or {IMPORTED[-1]}.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    recipe: Annotated[
        str | None, typer.Option(help="Recipe of its size, see `fila recipes`; the first that fits if not given.")
    ] = None,
    low_res: Annotated[str | None, typer.Option(help=f"{LEFT_OPEN} the low-res tower.")] = None,
    high_res: Annotated[str | None, typer.Option(help=f"{LEFT_OPEN} the high-res tower.")] = None,
    text: Annotated[str | None, typer.Option(help=f"{LEFT_OPEN} the language model.")] = None,
    config: Annotated[str | None, typer.Option(help=f"{LEFT_OPEN} the FilaConfig; VAR: `patch_nums` alone.")] = None,
    image_processor: Annotated[str | None, typer.Option(help=f"{LEFT_OPEN} the image processor.")] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Where the tokenizer is, if not in the source; VAR: the image tokenizer's file."),
    ] = None,
    low_res_weights: Annotated[
        str | None, typer.Option(help="Checkpoint of the low-res tower, where the original was saved without it.")
    ] = None,
    high_res_weights: Annotated[
        str | None, typer.Option(help="Checkpoint of the high-res tower, where the original was saved without it.")
    ] = None,
    text_weights: Annotated[
        str | None, typer.Option(help="Checkpoint of a language model, where the original's own cannot be imported.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; the widest of the source if not given.")
    ] = None,
    max_shard_size: Shards = MAX_SHARD,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Import an original system's checkpoint.

    Every tensor is renamed, transformed or dropped with a reason. Pickled weights are read by a child process that
    runs none of their code.
    """
    from fila.cli.library_messages import quiet
    from fila.conversion.import_checkpoint import import_checkpoint

    given = {"low_res": low_res, "high_res": high_res, "text": text, "config": config}
    given["image_processor"] = image_processor
    for name, value in given.items():
        if value is not None and not value.lstrip().startswith("{"):
            option = f"--{name.replace('_', '-')}"
            weights = f"; weights go with {option}-weights" if name.endswith("_res") else ""
            raise ValueError(f"{option} takes a JSON object of settings; got {value!r}{weights}.")
    if system == "var":
        others = {"recipe": recipe, "low-res-weights": low_res_weights, "high-res-weights": high_res_weights}
        others |= {"text-weights": text_weights}
        others |= {"dtype": dtype, "max-shard-size": None if max_shard_size == MAX_SHARD else max_shard_size}
        others |= {name.replace("_", "-"): value for name, value in given.items() if name != "config"}
        _import_var(source, output, tokenizer, config, overwrite, others)
        return
    with quiet():
        folder = import_checkpoint(
            source,
            output,
            system=system,
            recipe=recipe,
            tokenizer=tokenizer,
            low_res_weights=low_res_weights,
            high_res_weights=high_res_weights,
            text_weights=text_weights,
            dtype=dtype,
            max_shard_size=max_shard_size,
            overwrite=overwrite,
            progress=sys.stderr.isatty(),
            **{name: read_options(value) if value else None for name, value in given.items()},  # type: ignore[arg-type]
        )
    typer.echo(folder)


def _import_var(
    source: str,
    output: Path,
    tokenizer: str | None,
    config: str | None,
    overwrite: bool,
    others: dict[str, str | None],
) -> None:
    """Import VAR's weight files, which have no config, and to which the other options do not apply."""
    from fila.cli.library_messages import quiet
    from fila.conversion.import_var import import_var_file

    if unused := [f"--{name}" for name, value in others.items() if value is not None]:
        raise ValueError(
            f"{', '.join(unused)} cannot go with `--system var`, whose files say all but the patch numbers."
        )
    settings = read_options(config) if config else {}
    if unknown := sorted(set(settings) - {"patch_nums"}):
        raise ValueError(f"`--config` of `--system var` holds `patch_nums` alone; got {unknown}.")
    with quiet():
        dropped = import_var_file(source, output, tokenizer=tokenizer, overwrite=overwrite, **settings)
    for reason, count in dropped.items():
        say(f"left behind: {count} tensors ({reason})")
    typer.echo(output)


@app.command()
@one_line_errors
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint; for --output one that `fila import` made.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write.")] = None,
    onnx: Annotated[Path | None, typer.Option(help="ONNX file to write: the vision half.")] = None,
    like: Annotated[Path | None, typer.Option(help="With --onnx: an image whose size fixes the views.")] = None,
    original: Annotated[
        str | None, typer.Option(help="The checkpoint that was imported, for tensors that have no place here.")
    ] = None,
    merge: Annotated[
        Path | None, typer.Option(help="Adapter of PEFT to fold into any checkpoint; names and shapes stay fila's.")
    ] = None,
    max_shard_size: Shards = MAX_SHARD,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write an imported checkpoint in the original system's names, or with an adapter folded in, or as an ONNX file.

    Of an original, weights and config.json are written; tokenizer files are its own. The ONNX file is the vision half.
    """
    from fila.cli.library_messages import quiet
    from fila.conversion.adapter import merge_adapter
    from fila.conversion.export_checkpoint import export_checkpoint

    if onnx is not None:
        if merge is not None:
            raise ValueError("`--onnx` cannot go with `--merge`; merge into a checkpoint first, then export that.")
        if given := [name for name, value in (("--output", output), ("--original", original)) if value is not None]:
            raise ValueError(f"`--onnx` writes one file and nothing else; leave {given} out.")
        _export_onnx(checkpoint, onnx, like)
        return
    if like is not None:
        raise ValueError("`--like` is an image whose size fixes the views of an ONNX file; it goes with `--onnx`.")
    if output is None:
        raise ValueError("`fila export` needs `--output`, a folder, or `--onnx`, a file.")
    if merge is not None:
        if original is not None:
            raise ValueError("`--original` cannot go with `--merge`, which writes fila's own names.")
        with quiet():
            merge_adapter(checkpoint, merge, output, max_shard_size=max_shard_size, overwrite=overwrite)
        typer.echo(output)
        return
    with quiet():
        folder = export_checkpoint(
            checkpoint,
            output,
            original=original,
            max_shard_size=max_shard_size,
            overwrite=overwrite,
            progress=sys.stderr.isatty(),
        )
    typer.echo(folder)


def _export_onnx(checkpoint: Path, output: Path, like: Path | None) -> None:
    from fila.cli.library_messages import quiet
    from fila.conversion.export_onnx import export_onnx
    from fila.processing.image_input import load_images

    with quiet():
        export_onnx(checkpoint, output, like=None if like is None else load_images(str(like)))
    typer.echo(output)
