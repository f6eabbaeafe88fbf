# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers.dynamic_module_utils import get_imports, get_relative_imports

from fila.conversion import remote_code
from fila.conversion.remote_code import (
    IMAGE_PROCESSOR_AUTO_MAP,
    PROCESSOR_AUTO_MAP,
    TABLES,
    auto_map_files,
    code_hash,
    differing_code,
    model_code,
    narrowed,
    own_code,
    processor_code,
)
from fila.modeling.configuration_fila import AUTO_MAP, FilaConfig
from tests.helpers import tiny_config, tiny_model, tiny_processor

# What the default FILA checkpoint carries at most; lower it where code leaves. It rose once, for the two tensors that
# TRL's trainers keep, vLLM's rows of positions and the image half as a graph.
MOST_FILES, MOST_LINES = 60, 9_800
TABLE = '''"""Parts."""

from .checks import check_answers
from .one import One
from .two import (
    Other,
    Two,
)


class Part(Protocol):
    one: int


PARTS: dict[str, Any] = {
    "one": One,
    "two": Two,
    "other": Other,
}


def check_fusion(part: Any) -> None:
    check_answers(part, Part)


def build(name: str) -> Any:
    return PARTS[name]
'''


def default_code() -> dict[str, bytes]:
    return {**model_code(FilaConfig()), **processor_code(tiny_processor())}


def test_table_keeps_the_named_entries_and_what_they_import() -> None:
    found = narrowed(TABLE, {"PARTS": {"two": None, "film": ("film_part", "Film")}})
    expected = '''"""Parts."""

from .two import Two
from .film_part import Film


PARTS: dict[str, Any] = {
    "two": Two,
    "film": Film,
}


def build(name: str) -> Any:
    return PARTS[name]
'''
    assert [line for line in found.splitlines() if line] == [line for line in expected.splitlines() if line]


def test_every_file_is_the_repositorys_but_the_tables() -> None:
    own, code = own_code(), default_code()
    differing = {name for name, content in code.items() if content != own[name].read_bytes()}
    assert differing == set(TABLES) & set(code)


def test_code_is_closed_under_relative_imports(tmp_path: Path) -> None:
    code = default_code()
    for name, content in code.items():
        (tmp_path / name).write_bytes(content)
    needed = {f"{module}.py" for name in code for module in get_relative_imports(tmp_path / name)}
    starts = {f"{reference.split('.')[0]}.py" for reference in (*AUTO_MAP.values(), *PROCESSOR_AUTO_MAP.values())}
    assert needed | starts | {"image_processing_fila.py"} == set(code)


def test_code_has_every_class_of_the_auto_maps() -> None:
    code = default_code()
    for auto_map in (AUTO_MAP, PROCESSOR_AUTO_MAP, *IMAGE_PROCESSOR_AUTO_MAP.values()):
        for reference in auto_map.values():
            module, name = reference.split(".")
            assert f"class {name}(" in code[f"{module}.py"].decode()


def test_default_checkpoint_carries_little_and_no_sockets(tmp_path: Path) -> None:
    code = default_code()
    assert len(code) <= MOST_FILES
    assert sum(content.count(b"\n") for content in code.values()) <= MOST_LINES
    imported = set()
    for name, content in code.items():
        (tmp_path / name).write_bytes(content)
        imported |= set(get_imports(tmp_path / name))
    assert not imported & {"http", "socket", "ssl", "urllib"}
    names = " ".join(code)
    assert not [word for word in ("video", "var", "clips", "codebook", "download", "cache.py") if word in names]


@pytest.mark.parametrize(
    ("changes", "files"),
    [
        ({"connector": {"type": "codebook"}}, {"connector_codebook.py", "var_quantizer.py"}),
        ({"video_token_id": 3}, {"video_features.py", "video_clips.py"}),
        ({"slice_positions": 2}, {"view_tile_positions.py"}),
        ({"shared_positions": True}, {"modeling_shared_positions.py"}),
        ({"prune": "pixelprune"}, {"pruning.py"}),
        ({"preprocessing": {"prune": {"type": "pixelprune"}}}, {"pruning.py"}),
        (
            {"fusion": {"type": "sequence_concat", "connectors": [{"type": "linear"}, {"type": "resampler"}]}},
            {"connector_linear.py", "connector_resampler.py", "fusion_sequence_concat.py"},
        ),
    ],
)
def test_code_has_the_parts_that_a_config_names(changes: dict[str, Any], files: set[str]) -> None:
    own = set(model_code(tiny_config()))
    assert not files & own
    assert files <= set(model_code(tiny_config(**changes)))


def test_processor_code_has_the_features_that_settings_ask_for() -> None:
    plain = tiny_processor()
    videos = SimpleNamespace(canvas={"type": "square_pad"})
    layout = SimpleNamespace(has_newlines=True)
    rich = SimpleNamespace(
        image_processor=plain.image_processor, video_processor=videos, max_image_tokens=5, _layout=layout
    )
    rich_code = remote_code._closure(
        ["processing_fila"],
        remote_code._files_of(__import__("fila.processing").processing),
        remote_code.processor_entries(rich),
    )
    wanted = {"token_map.py", "token_budget.py", "video_inputs.py", "video_decode.py", "canvas_square_pad.py"}
    assert wanted <= set(rich_code)
    assert not wanted & set(processor_code(plain))


def saved_names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.py")}


def test_saved_folder_holds_exactly_the_code(tmp_path: Path) -> None:
    model, processor = tiny_model(), tiny_processor()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    code = {**model_code(model.config), **processor_code(processor)}
    assert {name: (tmp_path / name).read_bytes() for name in saved_names(tmp_path)} == code
    assert differing_code(tmp_path, code) == []
    model.config.save_pretrained(tmp_path)
    processor.image_processor.save_pretrained(tmp_path)
    assert differing_code(tmp_path, code) == []


def test_config_alone_carries_the_code_of_configs(tmp_path: Path) -> None:
    tiny_config().save_pretrained(tmp_path)
    assert "configuration_fila.py" in saved_names(tmp_path)
    assert not {"modeling_fila.py", "configuration_eva02.py"} & saved_names(tmp_path)


def test_another_model_replaces_the_code_in_a_folder(tmp_path: Path) -> None:
    tiny_model(connector={"type": "linear"}).save_pretrained(tmp_path)
    (tmp_path / "mine.py").write_text("")
    tiny_model().save_pretrained(tmp_path)
    assert "mine.py" in saved_names(tmp_path)
    assert {"connector_linear.py", "connector_mlp.py"} & saved_names(tmp_path) == {"connector_mlp.py"}


def test_differing_code_names_each_file(tmp_path: Path) -> None:
    code = default_code()
    assert differing_code(tmp_path, code) == [f"no code at all ({len(code)} files are missing)"]
    for name, content in code.items():
        (tmp_path / name).write_bytes(content)
    shutil.copy(own_code()["fusion_se.py"], tmp_path)  # as older versions wrote them
    (tmp_path / "fusion.py").write_text("FUSIONS = {}")
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "part_options.py").unlink()
    assert differing_code(tmp_path, code) == [
        "part_options.py (missing)",
        "mine.py (not of fila)",
        "fusion.py (different)",
    ]


def test_config_keeps_version_and_hash_of_the_code(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["code_hash"] == code_hash(model_code(model.config))
    assert saved["fila_version"] == remote_code.__version__


@pytest.mark.parametrize(
    ("version", "other_hash", "warns"),
    [("99.0.0", True, True), ("99.0.0", False, False), ("0.0.1", True, False), (remote_code.__version__, True, False)],
)
def test_newer_code_is_a_warning(version: str, other_hash: bool, warns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(remote_code.logger, "warning_once", said.append)
    own = code_hash(model_code(tiny_config()))
    FilaConfig(**tiny_config(fila_version=version, code_hash="0" * 16 if other_hash else own).to_dict())
    assert bool(said) is warns
    assert not said or "pip install -U fila-vlm" in said[0]


def test_auto_map_files_reads_every_form() -> None:
    auto_map = {"A": "one.X", "B": {"pil": "two.Y", "torchvision": "three.Z"}, "C": ["four.U", None]}
    assert auto_map_files(auto_map) == {"one.py", "two.py", "three.py", "four.py"}
