# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`fila train` and `fila evaluate`, in this process and in processes that are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor

from fila.cli import commands_training as cli_train
from fila.cli.commands_training import read_settings
from fila.conversion.import_checkpoint import import_checkpoint
from fila.conversion.verify import verify
from fila.training.data import open_data
from tests.conversion.originals import ORIGINALS, import_settings, write_original
from tests.helpers import tiny_model, tiny_processor
from tests.training.samples import make_samples, write_json_lines

SHORT = ("--max-steps", 2, "--batch-size", 2, "--logging-steps", 1, "--save-steps", 2, "--device", "cpu")
OPEN_WITHOUT_FILA = """
import sys
sys.modules["fila"] = None  # importing it is an error
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
for folder in sys.argv[1:]:
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    content = [{"type": "image", "image": Image.new("RGB", (50, 20))}, {"type": "text", "text": "Which?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )
    assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[0] == 1
    print(folder)
"""
# In the middle between two checkpoints, whatever else the machine does.
KILLED_IN_STEP_11 = """
import os, signal, sys
from transformers import Trainer
from fila.cli import app
training_step = Trainer.training_step
def step_or_die(self, *args, **kwargs):
    if self.state.global_step == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return training_step(self, *args, **kwargs)
Trainer.training_step = step_or_die
app(prog_name="fila")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_json_lines(tmp_path_factory.mktemp("data"), make_samples(7)))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["--lora", pytest.param("--qlora", marks=pytest.mark.nightly)])
def test_adapters_of_scopes(kind: str, checkpoint: str, data: str, fila: Callable[..., Any], tmp_path: Path) -> None:
    run = fila("train", checkpoint, "--data", data, "-o", tmp_path, kind, "text,connector", "--lora-rank", 3, *SHORT)
    assert run.exit_code == 0, run.stderr
    assert "adapters in ['text', 'connector']" in run.stderr
    assert "learning rate 0.0002" in run.stderr
    names = load_file(tmp_path / "final" / "adapter_model.safetensors")
    assert {name.split(".")[3] for name in names} == {"language_model", "multi_modal_projector"}
    assert "with `fila train`: adapters, 2 steps" in (tmp_path / "final" / "README.md").read_text()


def test_adapters_need_scopes_and_one_kind(
    checkpoint: str, data: str, fila: Callable[..., Any], tmp_path: Path
) -> None:
    for options, message in (
        (("--lora", "text", "--qlora", "text"), "not both"),
        (("--lora", ","), "need scopes, such as text"),
        (("--lora", "head"), "The scopes must be some of"),
        (("--packing",), "`packing` needs `max_length`"),
    ):
        refused = fila("train", checkpoint, "--data", data, "-o", tmp_path / "run", "--device", "cpu", *options)
        assert refused.exit_code > 0, refused.stderr
        assert message in refused.stderr


def test_packing(checkpoint: str, data: str, fila: Callable[..., Any], tmp_path: Path) -> None:
    options = ("--packing", "--max-length", 400, "--max-steps", 1, "--logging-steps", 1, "--save-steps", 1)
    run = fila("train", checkpoint, "--data", data, "-o", tmp_path, *options, "--device", "cpu", "--no-plots")
    assert run.exit_code == 0, run.stderr
    assert len(logged(tmp_path)) == 1


def logged(folder: Path) -> list[dict[str, float]]:
    """What was logged at each step."""
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in history if "loss" in entry]


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}


def test_a_killed_run_goes_on_bit_by_bit(checkpoint: str, data: str, tmp_path: Path) -> None:
    """Killed in the middle, resumed, compared with a run that nobody disturbed; then every checkpoint is opened."""
    options = "--max-steps 24 --batch-size 2 --logging-steps 1 --save-steps 4 --save-limit 99 --learning-rate 0.01"
    options += " --random-scale 0.7 1.3 --group-by-resolution --device cpu --no-plots"
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def train(*program: str, output: Path, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *program, "train", checkpoint, "--data", data, "--output", str(output)]
        return subprocess.run(
            [*command, *options.split(), *more],
            env=environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            check=False,
        )

    killed = train("-c", KILLED_IN_STEP_11, output=broken)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (broken / "trainer_state.json").exists()
    undisturbed = train("-m", "fila", output=whole)
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert undisturbed.stdout.strip() == str(whole / "final")

    resumed = train("-m", "fila", output=broken, more=("--resume",))
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming from {broken / 'checkpoint-8'}" in resumed.stderr
    curve = logged(whole)
    assert [entry["step"] for entry in curve] == list(range(1, 25))
    assert logged(broken) == curve
    weights = [(folder / "final" / "model.safetensors").read_bytes() for folder in (broken, whole)]
    assert weights[0] == weights[1]

    folders = [str(folder) for folder in sorted(broken.glob("checkpoint-*")) if (folder / "config.json").is_file()]
    assert len(folders) >= 6
    opened = subprocess.run(
        [sys.executable, "-I", "-c", OPEN_WITHOUT_FILA, *folders, str(broken / "final")],
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert opened.stdout.split() == [*folders, str(broken / "final")], opened.stderr


def test_train_writes_model_log_and_plots(
    fila: Callable[..., Any], checkpoint: str, data: str, tmp_path: Path
) -> None:
    evaluation = ("--eval-data", data, "--eval-steps", 2, "--eval-questions", 3)
    result = fila("train", checkpoint, "--data", data, "-o", tmp_path / "run", "--stage", "align", *SHORT, *evaluation)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "run" / "final")
    assert "training stage align: 0.01 of 0.05 M parameters train, learning rate 0.001, canvas single" in result.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {
        "accuracy.png",
        "checkpoint-2",
        "final",
        "loss.png",
        "trainer_state.json",
    }
    assert AutoProcessor.from_pretrained(tmp_path / "run" / "final").image_processor.canvas == {"type": "single"}
    history = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    assert any("eval_exact_match" in entry for entry in history)
    assert [check for check in verify(tmp_path / "run" / "final", forward=False) if not check.ok] == []


def test_train_does_not_write_over_a_run(fila: Callable[..., Any], checkpoint: str, data: str, tmp_path: Path) -> None:
    train = ("train", checkpoint, "--data", data, "-o", tmp_path, *SHORT, "--no-plots")
    (tmp_path / "checkpoint-1").mkdir()
    result = fila(*train)
    assert result.exit_code == 2
    assert "holds checkpoints of a training run; pass --resume to go on, or another --output" in result.stderr
    result = fila(*train, "--resume", "--canvas", '{"type": "single"}')
    assert result.exit_code == 0, result.stderr
    assert f"no complete checkpoint in {tmp_path}: starting from {checkpoint}" in result.stderr
    assert AutoProcessor.from_pretrained(tmp_path / "final").image_processor.canvas == {"type": "single"}
    (tmp_path / "checkpoint-2" / "optimizer.pt").unlink()  # its state says that it was saved to its end
    result = fila(*train, "--resume")
    assert result.exit_code == 2
    assert "can be resumed from; what they lack: {'checkpoint-1': ['config.json'," in result.stderr
    assert f"'checkpoint-2': ['optimizer.pt']}}. Put it back, or remove them to start again from {checkpoint}" in (
        result.stderr
    )


def test_options_of_a_canvas_that_align_drops_are_told(fila: Callable[..., Any], data: str, tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "ours")
    tiny_processor(canvas={"type": "fila", "tile_grids": [[1, 2]]}).save_pretrained(tmp_path / "ours")
    train = ("train", tmp_path / "ours", "--data", data, *SHORT, "--no-plots", "--stage")
    result = fila(*train, "align", "-o", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert """finetune needs --canvas '{"tile_grids": [[1, 2]], "type": "fila"}'""" in result.stderr
    assert "is replaced" not in fila(*train, "finetune", "-o", tmp_path / "other").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--stage", "warm"), "error: The training stage must be one of ['align', 'finetune']; got 'warm'."),
        (("--save-steps", 3, "--logging-steps", 2), "error: --save-steps must be a multiple of --logging-steps"),
        (("--device", "cuda:1"), "error: --device must be auto or cpu; got 'cuda:1'."),
        (("--set", "optim"), "error: `--set` takes name=value; got 'optim'."),
        (("--set", "optimm=1"), "fields of transformers' TrainingArguments; there is no ['optimm']."),
        (
            ("--set", "stage=align"),
            "`--set` is for what has no option of its own; `fila train --help` has those of ['stage']",
        ),
        (("--set", "resume_from_checkpoint=x"), "has those of ['resume_from_checkpoint']"),
        (("--max-steps", 0), "error: --max-steps must be positive, or -1 for as many as --epochs takes; got 0."),
        (("--data", "nowhere"), "error: Data must be a JSON-lines file"),
    ],
)
def test_train_refuses_in_one_line(
    options: tuple[Any, ...], message: str, fila: Callable[..., Any], checkpoint: str, data: str, tmp_path: Path
) -> None:
    result = fila("train", checkpoint, "--data", data, "-o", tmp_path / "run", *SHORT, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("run/*"))


def test_settings_are_json_or_text() -> None:
    assert read_settings(["a=0.5", "b=[1]", "c=adamw_torch", "d=null"]) == {
        "a": 0.5,
        "b": [1],
        "c": "adamw_torch",
        "d": None,
    }


def test_evaluate_prints_a_table_and_writes_what_it_saw(
    fila: Callable[..., Any], checkpoint: str, data: str, tmp_path: Path
) -> None:
    result = fila("evaluate", checkpoint, "--data", data, "-o", tmp_path / "out", "--max-new-tokens", 2)
    assert result.exit_code == 0, result.stderr
    table = [line.split() for line in result.stdout.splitlines()]
    heads = ["split", "bucket", "questions", "exact match", "95 % interval", "by pages", "anls", "character errors"]
    assert table[0] == " ".join(heads).split()
    assert "7 questions about 7 pages; " in result.stderr
    assert table[1][:4] == ["all", "all", "7", "0.0%"]
    assert [row[1:3] for row in table if row[0] == "resolution"] == [["2", "tiles"], ["3", "tiles"], ["4", "tiles"]]
    assert table[-1] == [str(tmp_path / "out")]
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (told["checkpoint"], told["data"]) == (checkpoint, data)
    assert datetime.fromisoformat(told["date"]).tzinfo is not None
    scores = told["scores"]
    assert scores["all"]["all"]["count"] == 7
    assert scores["all"]["all"]["high"] == pytest.approx(0.354, abs=1e-3)
    answers = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert [answer["reference"] for answer in answers[:2]] == ["aa", "bbb"]
    assert [answer["sample"] for answer in answers] == list(range(7))
    assert [answer["images"] for answer in answers] == [sample["images"] for sample in open_data(data)]
    with Image.open(tmp_path / "out" / "accuracy_1.png") as plot:
        assert plot.format == "PNG"


def test_llava_rows_train_and_answer_and_bad_ones_are_listed(
    fila: Callable[..., Any], checkpoint: str, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (50, 20)).save(images / "a.png")
    row = {
        "image": "a.png",
        "conversations": [{"from": "human", "value": "<image>\na"}, {"from": "gpt", "value": "b"}],
    }
    rows = [{"id": number, **row} for number in range(99)] + [{"id": 99, **row, "image": "gone.png"}]
    data = tmp_path / "rows.json"
    data.write_text(json.dumps(rows))
    asked = ("--data", data, "--image-folder", images)
    result = fila("train", checkpoint, *asked, "-o", tmp_path / "run", *SHORT)
    assert result.exit_code == 2
    assert "rows.json row 100 (id 99): names" in result.stderr
    assert "1 of 100 rows of" in result.stderr
    result = fila("train", checkpoint, *asked, "-o", tmp_path / "run", "--bad-rows", "skip", *SHORT, "--no-plots")
    assert result.exit_code == 0, result.stderr
    (bad,) = (json.loads(line) for line in (tmp_path / "run" / "bad_rows.jsonl").read_text().splitlines())
    assert (bad["row"], bad["id"], bad["kind"]) == (100, 99, "file missing")
    assert (
        "`fila train`: training stage `finetune`, 2 steps on `rows.json`"
        in (tmp_path / "run" / "final" / "README.md").read_text()
    )
    skipped = ("--bad-rows", "skip", "--max-bad", "0.5%")
    result = fila("evaluate", checkpoint, *asked, *skipped, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "more than the share 0.005 that may be left out (--max-bad)" in result.stderr
    assert len((tmp_path / "out" / "bad_rows.jsonl").read_text().splitlines()) == 1
    columns = tmp_path / "columns.jsonl"
    columns.write_text(json.dumps({"q": "a", "a": "b"}))
    more = ("--data", columns, "--data", f"{data}*0.02", "--columns", "question=q,answer=a", "--max-new-tokens", 2)
    result = fila(
        "evaluate", checkpoint, *more, *asked[2:], "--bad-rows", "skip", "-o", tmp_path / "out", "--no-plots"
    )
    assert result.exit_code == 0, result.stderr
    answers = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert [answer["question"] for answer in answers] == ["a", "\na"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--max-bad", "few"), "--max-bad must be a share such as 1% or 0.01; got 'few'"),
        (("--columns", "question"), "--columns must be name=column, with commas between; got 'question'"),
        (("--drop-instruction",), "--drop-instruction is for --stage align; got --stage finetune"),
    ],
)
def test_options_of_data_that_cannot_be_read_are_refused(
    options: tuple[str, ...], match: str, fila: Callable[..., Any], checkpoint: str, data: str, tmp_path: Path
) -> None:
    result = fila("train", checkpoint, "--data", data, "-o", tmp_path / "run", *options)
    assert result.exit_code == 2
    assert match in result.stderr


@pytest.mark.parametrize("options", [("--dense",), ("--read", 2), ("--split", "train"), ("--fonts", "fonts")])
def test_options_of_made_pages_do_not_go_with_documents(
    options: tuple[Any, ...], fila: Callable[..., Any], tmp_path: Path
) -> None:
    result = fila("pages", tmp_path / "out", "--pdf", "a.pdf", *options)
    assert result.exit_code == 2
    assert f"--pdf cuts pieces out of documents; ['{options[0]}'] are for pages that are made." in result.stderr
    assert not (tmp_path / "out").exists()


def test_pages_are_measured_on_the_canvas_of_a_checkpoint(
    fila: Callable[..., Any], checkpoint: str, tmp_path: Path
) -> None:
    result = fila("pages", tmp_path / "out", "--count", 1, "--checkpoint", checkpoint)
    assert result.exit_code == 0, result.stderr
    (line,) = (tmp_path / "out" / "pages.jsonl").read_text().splitlines()
    heights = json.loads(line)["fields"][0]
    images = AutoProcessor.from_pretrained(checkpoint).image_processor
    ratio = images.high_res_size["height"] / images.size["height"]
    assert heights["high_res_cap_height"] == pytest.approx(ratio * heights["tile_cap_height"])


def test_train_and_evaluate_do_not_write_over_what_they_read(
    fila: Callable[..., Any], checkpoint: str, tmp_path: Path
) -> None:
    start = shutil.copytree(checkpoint, tmp_path / "run" / "final")
    (tmp_path / "answers.jsonl").write_text("{}")
    for command in (
        ("train", start, "--data", "pages:train", "-o", tmp_path / "run"),
        ("train", start, "--data", "pages:train", "-o", start),
        ("evaluate", start, "--data", tmp_path / "answers.jsonl", "-o", tmp_path),
    ):
        result = fila(*command)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: An output must not be an input, hold one or lie in one; ")
    assert (tmp_path / "answers.jsonl").read_text() == "{}"


def test_evaluate_wants_generated_pages_counted(fila: Callable[..., Any], checkpoint: str) -> None:
    result = fila("evaluate", checkpoint, "--data", "pages:test")
    assert result.exit_code == 2
    assert "as in `pages:test:400`, or --max-questions given" in result.stderr


def test_evaluate_refuses_an_unknown_metric_and_takes_several(
    fila: Callable[..., Any], checkpoint: str, data: str
) -> None:
    result = fila("evaluate", checkpoint, "--data", data, "--metric", "bleu")
    assert result.exit_code == 2
    assert "`--metric` must be one of ['anls', 'anls_lmms', 'contains', 'exact', 'relaxed', 'vqa']" in result.stderr
    limits = ("--max-questions", 2, "--max-new-tokens", 1)
    result = fila("evaluate", checkpoint, "--data", data, "--metric", "vqa", "--metric", "anls_lmms", *limits)
    assert result.stdout.splitlines()[0].split()[-4:] == ["vqa", "anls_lmms", "character", "errors"]


def test_evaluate_asks_no_more_than_it_is_told(fila: Callable[..., Any], checkpoint: str, data: str) -> None:
    result = fila("evaluate", checkpoint, "--data", data, "--max-questions", 2, "--max-new-tokens", 1)
    assert result.stdout.splitlines()[1].split()[:3] == ["all", "all", "2"]


def test_data_without_a_question_is_refused(
    fila: Callable[..., Any], checkpoint: str, data: str, tmp_path: Path
) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Hm?"}]}) + "\n")
    result = fila("evaluate", checkpoint, "--data", path)
    assert result.exit_code == 2
    assert f"messages of the assistant or `fields`; {path} has neither." in result.stderr
    result = fila("train", checkpoint, "--data", data, "-o", tmp_path / "run", *SHORT, "--eval-data", path)
    assert "error: There must be something to ask" in result.stderr


def test_plots_are_left_out_without_matplotlib(
    fila: Callable[..., Any], checkpoint: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_train, "find_spec", lambda name: None)
    result = fila("train", checkpoint, "--data", data, "-o", tmp_path / "run", *SHORT)
    assert result.exit_code == 0, result.stderr
    assert "no plots: matplotlib is not installed (`pip install matplotlib`)" in result.stderr
    assert not list((tmp_path / "run").glob("*.png"))


def test_training_that_ends_before_the_first_log_is_no_error(
    fila: Callable[..., Any], checkpoint: str, data: str, tmp_path: Path
) -> None:
    result = fila("train", checkpoint, "--data", data, "-o", tmp_path / "run", "--max-steps", 1, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert "no plot of the loss: the training ended before --logging-steps 10" in result.stderr
    assert (tmp_path / "run" / "final" / "config.json").is_file()


@pytest.mark.parametrize("name", ORIGINALS)
def test_imported_checkpoint_is_asked_drawn_trained_and_evaluated(
    name: str, fila: Callable[..., Any], data: str, image: str, tmp_path: Path
) -> None:
    """What a user does with a system that is not FILA, one command after the other."""
    state = write_original(tmp_path / "theirs", ORIGINALS[name])
    ours = import_checkpoint(
        tmp_path / "theirs", tmp_path / "ours", progress=False, **import_settings(ORIGINALS[name], tmp_path / "theirs")
    )
    trained = tmp_path / "run" / "final"
    for command in (
        ("ask", ours, image, "What?", "--max-new-tokens", 2),
        ("view", image, "--checkpoint", ours, "-o", tmp_path / "view.png"),
        ("train", ours, "--data", data, "-o", tmp_path / "run", *SHORT, "--no-plots"),
        ("evaluate", trained, "--data", data, "-o", tmp_path / "scores", "--max-questions", 2, "--no-plots"),
        ("export", trained, "-o", tmp_path / "back", "--original", tmp_path / "theirs"),
    ):
        result = fila(*command)
        assert result.exit_code == 0, result.stderr
    assert json.loads((trained / "processor_config.json").read_text()) == json.loads(
        (ours / "processor_config.json").read_text()
    )
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert set(back) == {key for key in state if "rope" not in key and "rotary" not in key}  # constants are computed
