# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_imports

from fila.conversion.remote_code import (
    IMAGE_PROCESSOR_AUTO_MAP,
    PROCESSOR_AUTO_MAP,
    auto_map_files,
    copy_remote_code,
    remote_code_files,
)
from fila.modeling.configuration_fila import AUTO_MAP


def test_remote_code_is_closed_under_relative_imports(tmp_path: Path) -> None:
    copy_remote_code(tmp_path)
    present = {path.name for path in tmp_path.iterdir()}
    needed = {f"{module}.py" for path in tmp_path.iterdir() for module in get_relative_imports(path)}
    assert needed <= present
    assert present == {path.name for path in remote_code_files()}


def test_remote_code_has_every_class_of_the_auto_maps(tmp_path: Path) -> None:
    copy_remote_code(tmp_path)
    for auto_map in (AUTO_MAP, PROCESSOR_AUTO_MAP, *IMAGE_PROCESSOR_AUTO_MAP.values()):
        for reference in auto_map.values():
            module, name = reference.split(".")
            assert f"class {name}(" in (tmp_path / f"{module}.py").read_text()


def test_auto_map_files_reads_every_form() -> None:
    auto_map = {"A": "one.X", "B": {"pil": "two.Y", "torchvision": "three.Z"}, "C": ["four.U", None]}
    assert auto_map_files(auto_map) == {"one.py", "two.py", "three.py", "four.py"}
