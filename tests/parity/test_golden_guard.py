# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""No recorded number passes unread: cases of any numbers are compared, and a file that no test reads fails a run."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests import goldens
from tests.conftest import GoldenGuard
from tests.parity import minicpm_v, open_autoglm, var, videollama2
from tests.parity.golden import Check, relative_error
from tests.processing.test_layout import test_llava_next_order_golden as check_llava_next_order

TESTS = Path(__file__).parents[1]
# What is renumbered, and the check that reads it.
NUMBERED: dict[str, tuple[str, Check]] = {
    "autoglm_seed_values": (r"(in/fuse_)(\d+)()", open_autoglm.scale_softmax),
    "minicpmv46_vision": (r"(tokens_\d+x\.)(\d+)()", minicpm_v.merger_inside),
    "var_quant_l2_partial4_4scales": (r"(out/\w+_)(\d+)()", var.quantizer),
    "videollama2_linear": (r"(in/x|out/y)(\d+)()", videollama2.projector),
}


def renumbered(name: str, pattern: str, path: Path, change: str = "") -> list[str]:
    """Write a copy of a file of ours whose cases begin at 3, with one tensor changed; return what was renumbered."""
    with safe_open(goldens.FOLDER / f"{name}.safetensors", "pt") as opened:
        names, metadata = opened.keys(), opened.metadata()
        tensors = {key: opened.get_tensor(key) for key in names}

    def other(key: str) -> str:
        return re.sub(rf"^{pattern}$", lambda found: f"{found[1]}{int(found[2]) + 3}{found[3]}", key)

    written = {other(key): value.clone() for key, value in tensors.items()}
    if change:
        written[change] = written[change] + 1
    save_file(written, path, metadata)
    return sorted(set(written) - set(tensors))


@pytest.mark.parametrize("name", NUMBERED)
@torch.no_grad()
def test_cases_of_other_numbers_are_compared(name: str, tmp_path: Path) -> None:
    pattern, check = NUMBERED[name]
    path = tmp_path / f"{name}.safetensors"
    keys = renumbered(name, pattern, path)
    errors = {case: relative_error(*pair) for case, *pair in check(path)}
    assert errors
    assert max(errors.values()) <= 1e-5
    renumbered(name, pattern, path, change=keys[-1])
    assert max(relative_error(*pair) for _, *pair in check(path)) > 1e-3


def test_cases_of_other_numbers_are_compared_where_a_test_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILA_GOLDEN", str(tmp_path))
    path, pattern = tmp_path / "llava_next_pack_other.safetensors", r"()(\d+)(\.\w+)"
    assert "3.packed" in renumbered("llava_next_pack", pattern, path)
    check_llava_next_order()
    renumbered("llava_next_pack", pattern, path, change="5.packed")
    with pytest.raises(AssertionError):
        check_llava_next_order()


def test_file_counts_as_read_once_a_recorded_value_is_taken(tmp_path: Path) -> None:
    names = ("taken.safetensors", "weights_alone.safetensors", "opened.json", "deepseek_ocr2_x.json", "never.json")
    for name in names:
        if name.endswith(".json"):
            (tmp_path / name).write_text("[]")
        else:
            save_file({"sd.w": torch.zeros(1), "0.x": torch.zeros(1)}, tmp_path / name)
    goldens.read_json(tmp_path / "opened.json")
    takes: dict[str, Callable[[goldens.Tensors], object]] = {
        "taken.safetensors": lambda tensors: tensors["0.x"],
        "weights_alone.safetensors": lambda tensors: [tensors["sd.w"], "0.x" in tensors, sorted(tensors)],
    }
    for name, take in takes.items():
        take(goldens.read_tensors(tmp_path / name)[1])
    assert goldens.unread_files(goldens.files_read(), tmp_path) == ["never.json", "weights_alone.safetensors"]


def test_guard_judges_runs_of_all_tests_of_recorded_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILA_GOLDEN", str(tmp_path))
    (tmp_path / "new_system.json").write_text("[]")
    files = goldens.test_files_of_goldens(TESTS)
    assert {Path(__file__), TESTS / "processing" / "test_layout.py"} <= files
    assert TESTS / "cli" / "test_cli.py" not in files
    whole, part, few = GoldenGuard(), GoldenGuard(), GoldenGuard()
    whole.deselected(["tests/cli/test_cli.py::test_help"])
    whole.collected(files)
    part.deselected(["tests/parity/test_parity.py::test_piece_equals_the_original[VAR]"])
    part.collected(files)
    few.collected(files - {Path(__file__)})
    assert (whole.unread(), part.unread(), few.unread()) == (["new_system.json"], [], [])
    # of two processes, of which one read the file
    started = GoldenGuard()
    assert started.unread() == []
    started.received(whole.sent())
    assert started.unread() == ["new_system.json"]
    goldens.note_read(tmp_path / "new_system.json")
    other = GoldenGuard()
    other.collected(files)
    started.received(other.sent())
    assert started.unread() == []


def test_tests_that_read_recorded_numbers_are_selected_by_their_names() -> None:
    """Else `-k "golden or parity"` would not read their files."""
    calls = re.compile(r"\b(tensors_of|rows_of|golden_files)\(")
    unnamed = []
    for path in sorted(goldens.test_files_of_goldens(TESTS)):
        if goldens.is_golden(path.relative_to(TESTS).as_posix()):
            continue
        for block in re.split(r"^(?=def |@)", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            name = re.match(r"def (test_\w+)", block)
            if name and calls.search(block) and not goldens.is_golden(name[1]):
                unnamed.append(f"{path.name}::{name[1]}")
    assert unnamed == []
