# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The commands `fila recipes`, `fila import` and `fila export`."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fila.cli import Debug, _options, _say, _table, _told_in_one_line, app

# What `--system` takes; the tables behind it load torch, so a test compares.
IMPORTED = (
    "cogvlm2-video",
    "eagle",
    "internvl",
    "leo",
    "llava-hr",
    "llava-next",
    "llava-uhd",
    "mini-gemini",
    "minicpm-v-2.6",
    "var",
    "videollama2",
)
MAX_SHARD = "5GB"

LEFT_OPEN = "JSON object: what recipe and source leave open of"
Shards = Annotated[str, typer.Option(help="Largest weight file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]


@app.command()
@_told_in_one_line
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one as JSON.")] = None,
    debug: Debug = False,
) -> None:
    """List the systems that have a recipe."""
    from fila.recipes import as_rows, load_recipe, recipe_names

    if name is None:
        _table(as_rows([load_recipe(each) for each in recipe_names()]))
    else:
        typer.echo(json.dumps(dataclasses.asdict(load_recipe(name)), indent=2, ensure_ascii=False))


@app.command(name="import")
@_told_in_one_line
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
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16; the widest of the source if not given.")
    ] = None,
    max_shard_size: Shards = MAX_SHARD,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Turn an original system's checkpoint into one of ours.

    Every tensor is accounted for. Pickled weights are read as weights alone, by a process of their own.
    """
    from fila.conversion.import_checkpoint import import_checkpoint
    from fila.quiet import quiet

    given = {"low_res": low_res, "high_res": high_res, "text": text, "config": config}
    given["image_processor"] = image_processor
    for name, value in given.items():
        if value is not None and not value.lstrip().startswith("{"):
            option = f"--{name.replace('_', '-')}"
            weights = f"; weights go with {option}-weights" if name.endswith("_res") else ""
            raise ValueError(f"{option} takes a JSON object of settings; got {value!r}{weights}.")
    if system == "var":
        others = {"recipe": recipe, "low-res-weights": low_res_weights, "high-res-weights": high_res_weights}
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
            dtype=dtype,
            max_shard_size=max_shard_size,
            overwrite=overwrite,
            progress=sys.stderr.isatty(),
            **{name: _options(value) if value else None for name, value in given.items()},  # type: ignore[arg-type]
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
    """VAR's files of weights, which have neither a config nor anything that the other options speak of."""
    from fila.conversion.import_var import import_var_file
    from fila.quiet import quiet

    if unused := [f"--{name}" for name, value in others.items() if value is not None]:
        raise ValueError(
            f"{', '.join(unused)} cannot go with `--system var`, whose files say all but the patch numbers."
        )
    settings = _options(config) if config else {}
    if unknown := sorted(set(settings) - {"patch_nums"}):
        raise ValueError(f"`--config` of `--system var` holds `patch_nums` alone; got {unknown}.")
    with quiet():
        dropped = import_var_file(source, output, tokenizer=tokenizer, overwrite=overwrite, **settings)
    for reason, count in dropped.items():
        _say(f"left behind: {count} tensors ({reason})")
    typer.echo(output)


@app.command()
@_told_in_one_line
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder that `fila import` made; it may be trained since.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    original: Annotated[
        str | None, typer.Option(help="The checkpoint that was imported, for tensors that have no place here.")
    ] = None,
    max_shard_size: Shards = MAX_SHARD,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write an imported checkpoint in the original system's names and shapes.

    Weights and config.json are written; tokenizer files are the original's own.
    """
    from fila.conversion.export_checkpoint import export_checkpoint
    from fila.quiet import quiet

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
