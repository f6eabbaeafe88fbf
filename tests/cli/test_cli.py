# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Answers on standard output, all else on standard error; one line and status 2 for what a user can put right."""

import errno
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

from tests.conversion.test_adapter import save_adapter
from tests.helpers import TOKENS_PER_TILE

Run = Callable[..., Any]


def test_version(fila: Run) -> None:
    result = fila("--version")
    assert result.exit_code == 0
    assert re.fullmatch(r"fila [\w.]+, transformers [\w.]+, torch [\w.+]+\n", result.stdout)


def test_unknown_option_is_an_error(fila: Run, image: str) -> None:
    result = fila("plan", image, "--tiel", "28")
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "--tiel" in result.stderr


def test_plan_prints_one_row_per_image_and_the_total(fila: Run, image: str) -> None:
    result = fila("plan", image, "2200x1700", "--tile", "28", "--patch", "7")
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["image", "size", "tiles", "canvas", "content", "views", "tokens"]
    assert rows[1] == [image, "53x97", "2x2", "56x56", "31x56", "5", "80"]
    assert rows[2] == ["2200x1700", "2200x1700", "2x2", "56x56", "56x44", "5", "80"]
    assert rows[3] == ["total", "160"]


def test_plan_takes_the_settings_of_a_checkpoint(fila: Run, image: str, checkpoint: str) -> None:
    result = fila("plan", image, "--checkpoint", checkpoint)
    assert result.stdout.splitlines()[1].split()[-1] == str(5 * TOKENS_PER_TILE)


@pytest.mark.parametrize("where", [[], ["--checkpoint"]])
def test_pruning_is_planned_at_most_and_drawn(
    fila: Run, blank: str, checkpoint: str, tmp_path: Path, where: list[str]
) -> None:
    settings = [*where, checkpoint] if where else ["--tile", 28, "--patch", 7]
    rows = fila("plan", blank, "2200x1700", *settings, "--prune", "pixelprune").stdout.splitlines()
    assert [" ".join(row.split()[-3:]) for row in rows[1:3]] == ["at most 80"] * 2
    assert rows[3].endswith("at most 160")
    result = fila("view", blank, *settings, "--prune", "pixelprune", "-o", tmp_path / "seen.png")
    assert re.search(r"5 views, (\d+) of 80 image tokens", result.stderr)
    zipped = '{"type": "visionzip", "dominant": 4, "contextual": 2, "cls": false}'
    row = fila("plan", blank, *settings, "--prune", zipped).stdout.splitlines()[1]
    assert row.split()[-1] == str(5 * 6)
    assert "at most" not in row
    assert fila("view", blank, *settings, "--prune", zipped, "-o", tmp_path / "seen.png").exit_code == 0
    wrong = fila("plan", blank, *settings, "--prune", "dart")
    assert (wrong.exit_code, "inside the language model" in wrong.stderr) == (2, True)


def test_any_checkpoint_is_asked_and_evaluated_with_fewer_tokens(
    fila: Run, blank: str, checkpoint: str, tmp_path: Path
) -> None:
    ask = ("ask", checkpoint, blank, "What is this?", "--max-new-tokens", 3, "--device", "cpu")
    whole, pruned = fila(*ask), fila(*ask, "--prune", "pixelprune")
    counts = [int(re.search(r"prompt: (\d+) image", each.stderr)[1]) for each in (whole, pruned)]
    assert counts[0] == 80 > counts[1] > 0
    zipped = '{"type": "visionzip", "dominant": 4, "contextual": 2, "cls": false}'
    assert "prompt: 30 image tokens" in fila(*ask, "--prune", zipped).stderr
    data = tmp_path / "data.jsonl"
    messages = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "a"}]
    data.write_text(json.dumps({"images": [blank], "messages": messages}) + "\n", encoding="utf-8")
    for command, more in (("evaluate", ["--no-plots"]), ("ask", [])):
        output = tmp_path / command / ("" if more else "answers.jsonl")
        named = ["--data", data, "-o", output, *more, "--max-new-tokens", 2, "--device", "cpu"]
        result = fila(command, checkpoint, *named, "--prune", "pixelprune")
        assert result.exit_code == 0, result.stderr
    told = json.loads((tmp_path / "evaluate" / "evaluation.json").read_text("utf-8"))
    assert told["prune"] == {"type": "pixelprune"}


def test_plan_takes_canvas_options_as_json(fila: Run) -> None:
    result = fila("plan", "53x97", "--canvas", '{"type": "fila", "tile_grids": [[1, 1]], "overview": false}')
    assert result.stdout.splitlines()[1].split() == ["53x97", "53x97", "1x1", "336x336", "184x336", "1", "576"]


def test_plan_reads_no_pixels(fila: Run, broken: dict[str, str]) -> None:
    assert fila("plan", broken["truncated"]).stdout.splitlines()[1].split()[1] == "53x97"


@dataclass
class Refusal:
    """Arguments after `plan`, and what the one line says."""

    arguments: list[str]
    message: str


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(
            ["5x7", "--canvas", "anyres"],
            r"`canvas.type` must be one of \['deepseek_ocr', 'fila', .*, 'uhd'\]; got 'anyres'\.",
        ),
        Refusal(["5x7", "--canvas", "{type}"], r"'\{type\}' is not JSON: "),
        Refusal(
            ["5x7", "--canvas", '{"type": "fila", "rul": 1}'], r"Canvas 'fila' has no option \['rul'\]; it accepts"
        ),
        Refusal(
            ["5x7", "--tile", "335"], r"The tile must be a positive multiple of the patch; got tile 335 and patch 14"
        ),
        Refusal(["0x7"], "must be at least 1x1 pixels; got 0x7"),
        Refusal(["absent.png"], "Image 0 'absent.png' does not exist"),
        Refusal(["5x7", "--checkpoint", "./absent"], r"Checkpoint './absent' is neither a folder nor a Hub id"),
    ],
    ids=lambda refusal: refusal.message[:20],
)
def test_plan_tells_what_is_wrong_in_one_line(fila: Run, refusal: Refusal) -> None:
    result = fila("plan", *refusal.arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.fullmatch(rf"error: .*{refusal.message}.*\n", result.stderr)


def test_plan_tells_the_rest_where_images_are_bad(fila: Run, tmp_path: Path) -> None:
    frames = [Image.new("L", (9, 7)), Image.new("L", (9, 7), 255)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    result = fila("plan", "5x7", tmp_path / "two.tif", "absent.png", "2200x1700")
    assert result.exit_code == 2
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == ["image", "5x7", "2200x1700", "total"]
    assert rows[-1] == ["total", "of", "2", "of", "4", str(int(rows[1][-1]) + int(rows[2][-1]))]
    of_several, absent = result.stderr.splitlines()
    assert re.match(r"error: Image 1 .*two\.tif.* of several frames", of_several)
    assert absent.startswith("error: Image 2 'absent.png' does not exist")


def test_debug_raises_the_error(fila: Run) -> None:
    result = fila("plan", "0x7", "--debug")
    assert isinstance(result.exception, ValueError)


def test_an_unexpected_error_is_told_in_one_line_too(fila: Run, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise KeyError("metadata")

    monkeypatch.setattr("fila.look.view_settings.open_eyes", fail)
    result = fila("plan", image)
    assert result.exit_code == 1
    assert result.stderr == "error: unexpected KeyError: 'metadata' (--debug shows where)\n"
    assert isinstance(fila("plan", image, "--debug").exception, KeyError)


def test_view_writes_a_png_and_prints_its_path(fila: Run, image: str, checkpoint: str, tmp_path: Path) -> None:
    output = tmp_path / "new" / "seen.png"
    result = fila("view", image, "--checkpoint", checkpoint, "--output", output)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{output}\n"
    assert result.stderr == "2 x 2 tiles, 5 views, 80 image tokens\n"
    with Image.open(output) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")


@pytest.mark.parametrize("option", ["-o", "--html"])
def test_view_does_not_replace_what_it_views(fila: Run, image: str, option: str, tmp_path: Path) -> None:
    photo = Path(image).read_bytes()
    (tmp_path / "link.png").symlink_to(image)
    result = fila("view", tmp_path / "link.png", option, image)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: An output must not be an input, hold one or lie in one; {image} is ")
    assert Path(image).read_bytes() == photo


def test_view_keeps_the_old_picture_where_the_disk_is_full(
    fila: Run, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, path: Path, **options: Any) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "seen.png").write_text("old")
    monkeypatch.setattr(Image.Image, "save", full)
    result = fila("view", image, "-o", tmp_path / "seen.png")
    assert result.exit_code == 2
    assert result.stderr.endswith(f"No space left on device; what was there stays: '{tmp_path / 'seen.png'}'\n")
    assert (tmp_path / "seen.png").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["noise.png", "seen.png"]


def test_view_without_high_res_canvas_draws_less(fila: Run, image: str, tmp_path: Path) -> None:
    sizes = []
    for name, options in (("with", []), ("without", ["--no-high-res"])):
        result = fila("view", image, "--tile", "28", "--patch", "7", "-o", tmp_path / f"{name}.png", *options)
        assert result.exit_code == 0, result.stderr
        sizes.append((tmp_path / f"{name}.png").stat().st_size)
    assert sizes[0] > sizes[1]


def test_view_tells_what_marked_tokens_show(fila: Run, image: str, checkpoint: str, tmp_path: Path) -> None:
    arguments = ["view", image, "--checkpoint", checkpoint, "-o", tmp_path / "seen.png"]
    result = fila(*arguments, "--tokens", "78:80")
    assert result.exit_code == 0, result.stderr
    assert [line.split("; ")[0] for line in result.stderr.splitlines()[1:]] == [
        "token 78: tile row 2, col 2",
        "token 79: tile row 2, col 2",
    ]
    result = fila(*arguments, "--tokens", "80")
    assert result.stderr == "error: The image has tokens 0 to 79; got 80.\n"


@pytest.mark.parametrize("text", ["x", "-1", "3:", "5:3", "1:2:3", ""])
def test_view_refuses_tokens_that_are_no_range(fila: Run, image: str, text: str) -> None:
    result = fila("view", image, f"--tokens={text}")
    assert result.exit_code == 2
    assert "`--tokens` must be a number such as 137, or a range such as 100:140; got " in result.stderr


@pytest.mark.parametrize("command", ["ask", "view"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", r"error: Image 0 '.*missing\.png' does not exist\. .*"),
        ("zero", r"error: Image 0 \(.*zero\.png\) has no bytes\. .*"),
        ("truncated", r"error: Image 0 \(.*truncated\.png\) cannot be decoded .*"),
        ("text", r"error: Image 0 \(.*text\.png\) is no image PIL can open; it begins with b'dear sirs.*"),
    ],
    ids=["missing", "zero", "truncated", "text"],
)
def test_bad_image_is_named_in_one_line(
    fila: Run, command: str, fault: str, message: str, broken: dict[str, str], checkpoint: str
) -> None:
    arguments = [checkpoint, broken[fault], "What is this?"] if command == "ask" else [broken[fault]]
    result = fila(command, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.fullmatch(message + "\n", result.stderr)


def test_ask_puts_the_answer_alone_on_standard_output(fila: Run, image: str, checkpoint: str) -> None:
    result = fila("ask", checkpoint, image, image, "What is this?", "--max-new-tokens", 5, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line]
    assert lines[:2] == [f"image: {image}, 53 x 97 pixels"] * 2
    assert [line.split(":")[0] for line in lines[2:]] == ["model", "prompt", "answer"]
    assert result.stdout.endswith("\n")
    assert "prompt" not in result.stdout


def test_ask_needs_an_image_and_a_question(fila: Run, checkpoint: str) -> None:
    result = fila("ask", checkpoint, "What is this?")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: `fila ask` needs an image and a question after the checkpoint; got only 'What is this?'.\n"
    )


def test_ask_refuses_a_folder_that_is_no_checkpoint(fila: Run, image: str, tmp_path: Path) -> None:
    result = fila("ask", tmp_path, image, "What is this?")
    assert result.exit_code == 2
    assert result.stderr.endswith("has no config.json, so it is no checkpoint; `fila assemble` makes one.\n")


def test_assemble_makes_a_checkpoint_that_verify_passes(fila: Run, parts: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "assembled"
    options = ["--low-res", parts[0], "--text", parts[1], "--high-res-init", "convnext-atto", "--output", output]
    fusion = '{"type": "cvfm", "taps": [1, 2, 3, 4], "align": "pool"}'
    result = fila("assemble", *options, "--fusion", fusion, "--connector", "mlp", "--canvas", "single")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{output}\n"
    config = json.loads((output / "config.json").read_text())
    assert config["fusion"] == json.loads(fusion)
    assert config["connector"] == {"type": "mlp"}
    assert json.loads((output / "processor_config.json").read_text())["image_processor"]["canvas"] == {
        "type": "single"
    }

    verified = fila("verify", output, "--no-forward", "--values")
    assert verified.exit_code == 0, verified.stdout
    assert {line.split()[0] for line in verified.stdout.splitlines()} == {"ok"}

    again = fila("assemble", *options)
    assert again.exit_code == 2
    assert again.stderr == f"error: {output} exists. Choose another output, or pass `overwrite` to replace it.\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--fusion", "cvfn"], r"`fusion.type` must be one of \['cbam', .*'cvfm', .*\]; got 'cvfn'\."),
        (
            ["--fusion", '{"type": "cvfm", "tabs": [1]}'],
            r"Fusion 'cvfm' has no option \['tabs'\]; it accepts \['taps'",
        ),
        (["--dtype", "float7"], r"`dtype` must be one of .*; got 'float7'\."),
        (["--text", "./absent"], r"'./absent' is neither a folder nor a Hub id"),
        (["--high-res-overview", "fold"], r"'high_res_overview'.* got fold"),
    ],
    ids=["fusion", "fusion-option", "dtype", "text", "overview"],
)
def test_assemble_tells_what_is_wrong_in_one_line(
    fila: Run, change: list[str], message: str, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "assembled"
    options = ["--low-res", parts[0], "--text", parts[1], "--high-res-init", "convnext-atto", "--output", output]
    result = fila("assemble", *options, *change)
    assert result.exit_code == 2
    assert re.fullmatch(rf"error: .*{message}.*\n", result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_assemble_does_not_replace_its_parts(fila: Run, parts: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(parts[0].parent, tmp_path / "parts")
    low_res, text = (tmp_path / "parts" / part.name for part in parts)
    (tmp_path / "parts" / "config.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    for output in (low_res, text, tmp_path / "parts", low_res / "out"):
        options = ["--low-res", low_res, "--text", text, "--high-res-init", "convnext-atto", "--overwrite"]
        result = fila("assemble", *options, "-o", output)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: An output must not be an input, hold one or lie in one; ")
    assert sorted(tmp_path.rglob("*")) == before


def test_verify_fails_an_incomplete_checkpoint(fila: Run, checkpoint: str) -> None:
    result = fila("verify", checkpoint, "--no-forward")
    assert result.exit_code == 1
    rows = {line[8:].split("  ")[0]: line.split()[0] for line in result.stdout.splitlines()}
    assert rows["files are complete"] == "FAILED"
    assert rows["keys and shapes fit the model"] == "ok"
    assert re.search(r"^error: \d+ of \d+ checks failed for ", result.stderr, re.MULTILINE)


def test_verify_refuses_a_missing_folder(fila: Run, tmp_path: Path) -> None:
    result = fila("verify", tmp_path / "absent")
    assert result.exit_code == 2
    assert result.stderr.endswith("absent is not a folder.\n")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # of PEFT
def test_adapter_is_verified_and_merged(fila: Run, checkpoint: str, tmp_path: Path) -> None:
    for scope in ("text", "connector"):
        save_adapter(tmp_path / scope, scope)
    result = fila(
        "verify", checkpoint, "--no-forward", "--adapter", tmp_path / "text", "--adapter", tmp_path / "connector"
    )
    rows = {line[8:].split("  ")[0]: line.split()[0] for line in result.stdout.splitlines()}
    assert rows["text is an adapter that vLLM serves"] == "ok"
    assert rows["connector is an adapter that vLLM serves"] == "FAILED"
    assert result.exit_code == 1

    merged = tmp_path / "merged"
    result = fila("export", checkpoint, "--merge", tmp_path / "connector", "--output", merged)
    assert (result.exit_code, result.stdout) == (0, f"{merged}\n"), result.stderr
    before, after = (load_file(Path(folder) / "model.safetensors") for folder in (checkpoint, merged))
    changed = {name.split(".")[1] for name in before if not before[name].equal(after[name])}
    assert (before.keys(), changed) == (after.keys(), {"multi_modal_projector"})


def test_python_m_fila_is_the_command() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "fila", "plan", "336x672"], check=True, capture_output=True, text=True
    )
    assert process.stdout.splitlines()[1].split() == ["336x672", "336x672", "1x2", "336x672", "336x672", "3", "1728"]
