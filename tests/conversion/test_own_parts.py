# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fila
from fila.conversion import own_parts
from fila.conversion.own_parts import KINDS, find_part, own_sources, require_parts
from fila.conversion.remote_code import model_code, model_entries
from fila.modeling.connector_linear import LinearConnector
from fila.modeling.fusion_none import NoFusion
from fila.modeling.injection_streams import StreamInjection
from fila.modeling.tower_clip import ClipTower
from fila.modeling.tower_sam import SamTower
from fila.processing.layout import Layout, build_layout
from tests.helpers import tiny_config, tiny_processor


@pytest.fixture(autouse=True)
def fresh_tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the tables back as they were."""
    before = {kind: dict(table) for kind, (_, table, _) in KINDS.items()}
    monkeypatch.setattr(own_parts, "_registered", {})
    yield
    for kind, (_, table, _) in KINDS.items():
        table.clear()
        table.update(before[kind])


class MyConnector(LinearConnector):
    pass


class MyTower(ClipTower):
    pass


class MyCanvasTower(SamTower):
    pass


def test_registered_part_is_built_by_its_name() -> None:
    fila.register_part("connector", "mine", MyConnector)
    fila.register_part("connector", "mine", MyConnector)
    assert KINDS["connector"][1]["mine"] is MyConnector
    assert own_parts.own_parts_in({"CONNECTORS": {"mine", "mlp"}}) == {"connector.mine": "test_own_parts.MyConnector"}


@pytest.mark.parametrize(("tower", "low", "high"), [(MyTower, True, True), (MyCanvasTower, False, True)])
def test_tower_is_whichever_it_can_be(tower: type, low: bool, high: bool) -> None:
    fila.register_part("tower", "clip_text_model", tower)
    assert ("clip_text_model" in KINDS["low_res_tower"][1], "clip_text_model" in KINDS["high_res_tower"][1]) == (
        low,
        high,
    )


class MyInjection(StreamInjection):
    pass


def test_registered_injection_is_built_by_its_name() -> None:
    fila.register_part("injection", "mine", MyInjection)
    config = tiny_config(injection={"type": "mine", "streams": [{"tap": 1, "before": 0}]})
    assert type(fila.FilaForConditionalGeneration(config).model.injection) is MyInjection
    assert own_parts.own_parts_in(model_entries(config)) == {"injection.mine": "test_own_parts.MyInjection"}
    assert "injection.py" not in model_code(tiny_config())


@pytest.mark.parametrize(
    ("kind", "name", "part", "message"),
    [
        ("sampling", "mine", MyConnector, "`kind` must be one of .*'fusion'"),
        ("connector", "my-part", MyConnector, "`name` must be a name"),
        ("connector", "mlp", MyConnector, "The connector 'mlp' is fila's own; choose another name"),
        ("connector", "mine", type("Bare", (), {}), "does not declare .*'tokens_per_tile'"),
        ("injection", "streams", StreamInjection, "The injection 'streams' is fila's own; choose another name"),
        ("injection", "mine", type("Bare", (), {}), "does not declare .*'feature_layers'"),
        ("connector", "mine", type("Script", (MyConnector,), {"__module__": "__main__"}), "is defined in a script"),
        ("tower", "mine", type("Bare", (), {}), "does not declare .*'encodes_views'"),
        ("layout", "mine", Layout(overview="nowhere"), "`layout.overview` must be one of"),
    ],
)
def test_register_part_rejects(kind: str, name: str, part: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fila.register_part(kind, name, part)


def test_name_of_another_class_is_refused() -> None:
    fila.register_part("connector", "mine", MyConnector)
    with pytest.raises(ValueError, match=r"'mine' is that of .*test_own_parts\.MyConnector"):
        fila.register_part("connector", "mine", LinearConnector)


def test_layout_is_saved_in_fields_that_every_checkpoint_knows() -> None:
    fila.register_part("layout", "mine", Layout(overview="last", row_separator="|"))
    assert build_layout("mine").row_separator == "|"
    plain = tiny_processor()
    processor = fila.FilaProcessor(plain.image_processor, plain.tokenizer, layout="mine")
    assert processor.layout == {"type": "fila", "overview": "last", "row_separator": "|"}


class Entry:
    name = "connector.mine"

    def load(self) -> Any:
        return MyConnector


def test_entry_point_is_loaded_when_a_config_names_the_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_parts, "entry_points", lambda group: [Entry()] if group == "fila.parts" else [])
    find_part("fusion", "mine")
    assert "mine" not in KINDS["connector"][1]
    model = fila.FilaModel(tiny_config(connector="mine"))
    assert type(model.multi_modal_projector) is MyConnector


def test_require_parts_takes_what_an_entry_point_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"The connector 'mine' is defined by own\.py beside the checkpoint"):
        require_parts({"connector.mine": "own.MyConnector"})
    monkeypatch.setattr(own_parts, "entry_points", lambda group: [Entry()])
    require_parts({"connector.mine": "own.MyConnector"}, "folder")
    require_parts({"sampling.new": "of_a_newer.Version"})


HEAD = "from fila.modeling.connector_linear import LinearConnector\n"
BODY = "\n\nclass Mine(LinearConnector):\n    pass\n"


def registered(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """Write a package `pkg`, and register `pkg.mine.Mine`."""
    (folder / "pkg").mkdir()
    for name, text in {"__init__": "", **files}.items():
        (folder / "pkg" / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pkg"]:
        monkeypatch.delitem(sys.modules, name)
    fila.register_part("connector", "mine", __import__("pkg.mine").mine.Mine)


def test_files_of_a_package_are_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import math\nfrom .first import one\nfrom pkg.second import (\n    two,\n)\n" + HEAD + BODY
    registered(tmp_path, monkeypatch, mine=text, first="one = 1\n", second="from .first import one as two\n")
    code = model_code(tiny_config(connector="mine"))
    rewritten = text.replace("from pkg.second", "from .second").replace(
        "from fila.modeling.connector", "from .connector"
    )
    assert code["mine.py"].decode() == rewritten
    assert code["first.py"] == b"one = 1\n"
    assert code["second.py"] == b"from .first import one as two\n"
    assert b"from .mine import Mine\n" in code["connector.py"]
    assert b'    "mine": Mine,\n' in code["connector.py"]
    assert "connector_linear.py" in code


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import fila", "line 2: a checkpoint cannot carry `import fila`"),
        ("import pkg.first", "line 2: a checkpoint cannot carry `import pkg.first`"),
        ("from fila import FilaModel", "line 2: a checkpoint cannot carry `from fila import`"),
        ("from fila.conversion.weights import x", "cannot carry `from fila.conversion.weights import`"),
        ("from . import first", "an import of whole modules or of everything"),
        ("from .first import *", "an import of whole modules or of everything"),
        ("from .below.first import one", "from a folder below"),
        ("from fila.modeling.connector import CONNECTORS", "an import of the table 'connector'"),
    ],
)
def test_imports_that_cannot_lie_beside_a_checkpoint_are_refused(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(tmp_path, monkeypatch, mine=HEAD + BODY, first="one = 1\n")
    (tmp_path / "pkg" / "mine.py").write_text(f"{HEAD}{line}\n{BODY}", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        model_code(tiny_config(connector="mine"))


def test_file_names_of_fila_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(tmp_path, monkeypatch, mine=HEAD + "from .part_options import one\n" + BODY, part_options="one = 1\n")
    with pytest.raises(ValueError, match=r"part_options\.py.* has the name of a file of fila"):
        model_code(tiny_config(connector="mine"))


def test_no_own_part_no_source() -> None:
    assert own_sources({"FUSIONS": {"none"}, "CONNECTORS": {"mlp"}}, {}) == ({}, {})
    assert NoFusion is KINDS["fusion"][1]["none"]
