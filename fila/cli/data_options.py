# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Options of the commands that read `--data`, and the file that lists the rows that were left out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fila.cli.common import say

Data = Annotated[
    list[str],
    typer.Option(
        help="LLaVA or ms-swift JSON, InternVL's table of sets, JSON lines, .parquet, .tar, a pattern of these, a "
        "folder of images or of `save_to_disk`, NAME[split] of the Hub, or pages:SPLIT[:COUNT] for generated pages "
        "(train, varied, test). Several are joined with + or by repeating the option; *0.4 takes a share, *3 repeats.",
        metavar="DATA",
    ),
]
ImageFolder = Annotated[
    Path | None, typer.Option(help="Folder that paths of images are relative to; without it that of the file.")
]
Columns = Annotated[
    str | None, typer.Option(help="Your names of columns, such as question=q,answer=a; NAME= hides one.")
]
BadRows = Annotated[
    str, typer.Option(help="error, or skip: leave rows out that cannot be used, and list them in bad_rows.jsonl.")
]
MaxBad = Annotated[str, typer.Option(help="Largest share of rows that may be left out.", metavar="SHARE")]
ImagePosition = Annotated[
    str, typer.Option(help="as_written, or first: images before the text of their turn, as LLaVA trains.")
]
MissingImage = Annotated[
    str, typer.Option(help="Of images without an <image> in the text: error, or first, before it, as InternVL trains.")
]
LeadingAnswer = Annotated[
    str, typer.Option(help="Of rows that start with the assistant: error, or skip that turn, as LLaVA trains.")
]
Boxes = Annotated[
    str | None, typer.Option(help="Notation for `objects` of ms-swift: norm1000, norm1 or pixels of the image.")
]
Streaming = Annotated[
    bool, typer.Option("--streaming", help="Read tables and tars as a stream, which has no length; see --max-steps.")
]


def read_data_options(
    image_folder: Path | None,
    columns: str | None,
    bad_rows: str,
    max_bad: str,
    image_position: str,
    missing_image: str,
    leading_answer: str,
    boxes: str | None,
    streaming: bool,
) -> dict[str, Any]:
    """Return the options of `open_data`.

    Raises:
        ValueError: If `--columns` or `--max-bad` cannot be read.
    """
    pairs = [pair.partition("=") for pair in columns.split(",")] if columns else []
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError(f"--columns must be name=column, with commas between; got {columns!r}.")
    try:
        share = float(max_bad.removesuffix("%")) / (100 if max_bad.endswith("%") else 1)
    except ValueError as error:
        raise ValueError(f"--max-bad must be a share such as 1% or 0.01; got {max_bad!r}.") from error
    return {
        "image_folder": image_folder,
        "columns": {name.strip(): column.strip() for name, _, column in pairs},
        "bad_rows": bad_rows,
        "max_bad": share,
        "image_position": image_position,
        "missing_image": missing_image,
        "leading_answer": leading_answer,
        "boxes": boxes,
        "streaming": streaming,
    }


def data_inputs(data: str | None, options: Mapping[str, Any]) -> list[str | Path | None]:
    """Return the files and folders that data is read from."""
    from fila.training.data import files_of

    return [options["image_folder"], *(files_of(data) if data else [])]


def open_listed(data: str, processor: Any, options: Mapping[str, Any], output: Path | None) -> Any:
    """Open data; write the rows that were left out to `bad_rows.jsonl` in the output folder, if there is one.

    Raises:
        BadRowsError: If more rows cannot be used than may be left out; the file is written all the same.
    """
    from fila.training.data import BadRowsError, open_data

    try:
        dataset = open_data(data, processor, **options)
    except BadRowsError as error:
        if options["bad_rows"] == "skip":
            _write_bad(error.rows, output)
        raise
    _write_bad(getattr(dataset, "bad", ()), output)
    return dataset


def _write_bad(rows: Sequence[Mapping[str, Any]], output: Path | None) -> None:
    if not rows:
        return
    if output is None:
        say(f"{len(rows)} rows cannot be used and are left out; --output lists them")
        return
    from fila.conversion.output import written_file

    with written_file(output / "bad_rows.jsonl") as partial:
        partial.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), encoding="utf-8")
    say(f"{len(rows)} rows cannot be used; they are listed in {output / 'bad_rows.jsonl'}")
