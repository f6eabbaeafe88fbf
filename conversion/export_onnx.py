# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Write the vision half of a checkpoint as an ONNX file; see `vision_graph.py` for its inputs and its output."""

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.processing_fila import FilaProcessor

from .output import written_file
from .vision_graph import export_vision

OUTPUT = "image_tokens"
MAX_BYTES = 1_800_000_000  # of weights in one file; protobuf takes 2 GiB
# Names of the axes that differ from image to image; a canvas has as many pixels as that many tiles.
AXES = {
    "pixel_values": {1: "views"},
    "high_res_pixel_values": {2: "rows", 3: "cols"},
    "image_token_index": {1: "tokens"},
}


def export_onnx(checkpoint: str | Path, output: str | Path, *, like: Image.Image | None = None) -> Path:
    """Write the vision half of a checkpoint, in float32, as an ONNX file.

    Args:
        checkpoint: Folder or Hub id.
        output: The file; an older one is replaced. Large weights lie beside it, in a file whose name ends in ".data".
        like: As in `export_vision`.

    Raises:
        ImportError: If the packages of the extra `onnx` are missing.
        NotExportableError: If the vision half cannot be one graph.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "An ONNX file needs onnxscript. Install it: `pip install onnx onnxscript onnxruntime`."
        ) from error
    processor: Any = FilaProcessor.from_pretrained(checkpoint)
    model = FilaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    output = Path(output)
    with written_file(output, inputs=[checkpoint]) as path:
        write_onnx(export_vision(model, processor, like=like), path)
        if (data := _data_of(path)).exists():
            data.replace(_data_of(output))
    return output


def _data_of(path: Path) -> Path:
    """Return the file beside an ONNX file that holds its weights, by the name that torch gives it."""
    return path.with_name(f"{path.name}.data")


def write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """Convert an exported program to ONNX and write the file, and one more for weights beyond `MAX_BYTES`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own
        made: Any = torch.onnx.export(program, dynamo=True, output_names=[OUTPUT], verbose=False)
    symbols: dict[str, str] = {}
    for value in made.model.graph.inputs:
        for axis, name in AXES.get(value.name, {}).items():
            symbols |= dict.fromkeys(re.findall(r"s\d+", str(value.shape[axis])), name)
    made.rename_axes(symbols)
    size = sum(weight.numel() * weight.element_size() for weight in program.state_dict.values())
    made.save(path, external_data=size > MAX_BYTES)
