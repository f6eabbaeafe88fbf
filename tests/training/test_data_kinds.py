# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Each file of `fixtures/` opens, and gives what the same rows give in our own form."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from torch.utils.data import DataLoader

from fila.processing.image_input import load_images
from fila.training.collator import FilaCollator, readable_source
from fila.training.data import has_uncounted_pages, is_generated, open_data, questions, sample_sizes
from fila.training.data_rows import normalise
from fila.training.evaluation import answer_questions
from fila.training.trainer import FilaTrainer
from tests.cases import each
from tests.helpers import tiny_model, tiny_processor
from tests.training.samples import arguments, losses

FIXTURES = Path(__file__).parent / "fixtures"
IMAGES = FIXTURES / "llava" / "images"
# Name to what is opened, its options, and the number of samples.
KINDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "llava": ("llava/mix.json", {"image_folder": IMAGES}, 6),
    "llava captions": ("llava/pretrain.json", {"image_folder": IMAGES, "drop_instruction": True}, 2),
    "internvl": ("internvl/meta.json", {"missing_image": "first"}, 12),
    "ms-swift": ("swift/train.jsonl", {"boxes": "norm1000"}, 6),
    "the_cauldron": ("cauldron", {}, 3),
    "parquet files": ("cauldron/data/*.parquet", {}, 3),
    "docvqa": ("docvqa/validation.parquet", {}, 1),
    "textvqa": ("textvqa/validation.parquet", {}, 1),
    "chartqa": ("chartqa/test.parquet", {}, 1),
    "chartqa of HF": ("chartqa_hf4/test.parquet", {}, 1),
    "preferences": ("rlaif/preference.parquet", {}, 1),
    "trl completion": ("trl/prompt_completion.parquet", {}, 1),
    "trl preference": ("trl/preference.parquet", {}, 1),
    "trl prompts": ("trl/grpo.parquet", {"columns": {"completion": "solution"}}, 2),
    "imagefolder": ("imagefolder", {}, 2),
    "webdataset": ("wds/*.tar", {}, 3),
}
each_kind = each("kind", list(KINDS))


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`datasets` copies tables into its cache, which is not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def opened(kind: str, **more: Any) -> Any:
    name, options, _ = KINDS[kind]
    return open_data(FIXTURES / name, tiny_processor(), **options, **more)


def write_own(folder: Path, samples: Any) -> Path:
    """Write samples in our own form, with images as PNG."""
    folder.mkdir()
    with (folder / "own.jsonl").open("w", encoding="utf-8") as file:
        for number, sample in enumerate(samples[index] for index in range(len(samples))):
            names = [f"{number}_{index}.png" for index in range(len(sample["images"]))]
            for name, image in zip(names, sample["images"], strict=True):
                load_images(readable_source(image)).save(folder / name)
            file.write(json.dumps({"images": names, "messages": sample["messages"]}) + "\n")
    return folder / "own.jsonl"


@each_kind
def test_rows_are_those_of_our_own_form(kind: str, tmp_path: Path) -> None:
    data = opened(kind, needs_answer=True)
    assert len(data) == KINDS[kind][2]
    own = open_data(write_own(tmp_path / kind, data))
    collate = FilaCollator(tiny_processor())
    batches = [collate([rows[index] for index in range(len(rows))]) for rows in (data, own)]
    assert batches[0].keys() == batches[1].keys()
    for name, tensor in batches[0].items():
        assert torch.equal(tensor, batches[1][name]), name
    asked = [[(each.text, each.answer) for each in questions(rows)] for rows in (data, own)]
    assert asked[0] == asked[1] != []
    assert list(sample_sizes(data)) == list(sample_sizes(own))


def test_every_kind_trains_and_answers_as_in_our_own_form(tmp_path: Path) -> None:
    found: list[Any] = []
    for case in ("given", "own"):
        torch.manual_seed(0)
        rows: list[dict[str, Any]] = []
        for kind in KINDS:
            data = opened(kind)
            data = data if case == "given" else open_data(write_own(tmp_path / kind.replace(" ", "_"), data))
            rows += [data[index] for index in range(1)]
        trainer = FilaTrainer(
            tiny_model(),
            arguments(tmp_path / case, max_steps=1, per_device_train_batch_size=len(rows)),
            processing_class=tiny_processor(),
            train_dataset=rows,
        )
        trainer.train()
        answers = answer_questions(
            tiny_model(), tiny_processor(), list(questions(rows)), max_new_tokens=2, batch_size=99
        )
        found.append((losses(trainer), [answer.prediction for answer in answers]))
    assert found[0] == found[1]
    assert len(found[0][1]) >= len(KINDS)


def test_llava_rows_are_read_as_written_or_with_images_first() -> None:
    as_written, first = opened("llava"), opened("llava", image_position="first")
    image, newline = {"type": "image"}, {"type": "text", "text": "\n"}
    assert as_written[3]["messages"][0]["content"] == [
        image,
        newline,
        image,
        {"type": "text", "text": "\nWhich is taller?"},
    ]
    assert first[3]["messages"][0]["content"] == [image, image, {"type": "text", "text": "\nWhich is taller?"}]
    inline = {"type": "text", "text": "Look at "}, image, {"type": "text", "text": " and say its name."}
    assert as_written[5]["messages"][0]["content"] == [*inline]
    assert first[5]["messages"][0]["content"] == [image, {"type": "text", "text": "\nLook at  and say its name."}]
    assert as_written[1]["images"] == []
    assert opened("llava captions")[0]["messages"][0]["content"] == [image]


def test_internvl_sets_are_repeated_and_shared() -> None:
    data = opened("internvl")
    assert [data[index]["id"] for index in range(len(data))] == [*range(5), *range(5), 0, 1]
    assert data[3]["messages"][0]["content"] == [
        {"type": "image"},
        {"type": "text", "text": "\nNo tag here, describe."},
    ]


@each(
    "boxes, answer",
    [("norm1000", "[33, 50, 367, 175]"), ("norm1", "[0.033, 0.050, 0.367, 0.175]"), ("pixels", "[4, 4, 44, 14]")],
)
def test_boxes_are_written_in_the_notation_that_is_asked_for(boxes: str, answer: str) -> None:
    data = open_data(FIXTURES / "swift" / "train.jsonl", boxes=boxes)
    assert [message["content"][-1]["text"] for message in data[4]["messages"]] == ["Find the title", answer]
    assert data[5]["rejected"][0]["content"] == [{"type": "text", "text": "slip Z"}]


@each(
    "kind, learnt, answers",
    [
        ("docvqa", "slip A", ["slip A", "Slip A"]),
        ("textvqa", "a", ["a", "a", "a", "a", "A", "slip a", "a", "unanswerable", "a", "b"]),
        ("chartqa of HF", "40", ["40"]),
    ],
)
def test_every_right_answer_is_kept(kind: str, learnt: str, answers: list[str]) -> None:
    data = opened(kind)
    assert data[0]["answers"] == answers
    (asked,) = questions(data)
    assert (asked.answer, asked.answers) == (learnt, answers)


def test_prompts_without_an_answer_are_questions() -> None:
    data = open_data(FIXTURES / "trl" / "grpo.parquet")
    assert list(questions(data)) == []
    assert [(asked.text, asked.answer) for asked in questions(data, unanswered=True)] == [
        ("Which is taller?", ""),
        ("2+2?", ""),
    ]
    assert data[0]["extra"] == {"solution": "second"}
    with pytest.raises(ValueError, match=r"no answer, 2 rows: .*grpo.parquet row 1: has no answer to learn"):
        open_data(FIXTURES / "trl" / "grpo.parquet", needs_answer=True)


@each("name", ["cauldron/data/*.parquet", "wds/shard-000000.tar"])
def test_streams_give_the_samples_of_the_table(name: str) -> None:
    stream, table = (open_data(FIXTURES / name, streaming=streaming) for streaming in (True, False))
    assert not hasattr(stream, "__len__")
    found = list(stream)
    assert [sample["messages"] for sample in found] == [table[index]["messages"] for index in range(len(table))]
    for sample, other in zip(found, (table[index] for index in range(len(table))), strict=True):
        assert [image["bytes"] for image in sample["images"]] == [image["bytes"] for image in other["images"]]
    with pytest.raises(ValueError, match="must be of data with a length"):
        open_data(f"{FIXTURES / name}+{FIXTURES / name}", streaming=True)


def test_workers_read_the_same_samples() -> None:
    for kind in ("llava", "webdataset", "the_cauldron"):
        data = opened(kind)
        loader = DataLoader(data, batch_size=1, num_workers=2, collate_fn=list)
        assert [batch[0] for batch in loader] == [data[index] for index in range(len(data))]


def test_mixtures_take_shares_and_repetitions(tmp_path: Path) -> None:
    plus = tmp_path / "a+b"
    shutil.copytree(FIXTURES / "swift", plus)
    lines = (plus / "train.jsonl").read_text().splitlines()
    (plus / "train.jsonl").write_text("\n".join(line for line in lines if "<bbox>" not in line))
    swift, wds = f"{plus}/train.jsonl", f"{FIXTURES}/wds/shard-*.tar"
    data = open_data(f"{swift}*0.4+{wds}*2+{swift}")
    asked = [data[index]["messages"][-2]["content"][-1]["text"] for index in range(len(data))]
    assert asked[:6] == ["What is it?", "Which is taller?", *["\nRead it."] * 4]
    assert len(data) == 2 + 4 + 5
    assert data[-1] == data[10]
    with pytest.raises(IndexError):
        data[11]
    for spec, match in (
        (f"{swift}+", "must have a name on both sides"),
        (f"{swift}*0", "more than 0 and at most 1000 times"),
        (f"{swift}*1001", "at most 1000 times"),
        (f"{wds}+{swift}*0.1", "a sample of each of its parts; 0.1 of 5 is none"),
    ):
        with pytest.raises(ValueError, match=match):
            open_data(spec)
    pages = open_data(f"{swift}+pages:train", tiny_processor())
    assert (is_generated(pages), has_uncounted_pages(pages), is_generated(data)) == (True, True, False)
    assert not has_uncounted_pages(open_data(f"{swift}+pages:train:4", tiny_processor()))


def test_our_own_rows_stay_as_they_are(tmp_path: Path) -> None:
    data = opened("the_cauldron")
    path = write_own(tmp_path / "own", data)
    row = json.loads(path.read_text().splitlines()[0]) | {"more": [1]}
    path.write_text(json.dumps(row))
    sample = open_data(path)[0]
    assert sample["more"] == [1]
    assert "extra" not in sample


def test_tables_are_mapped_by_the_normaliser() -> None:
    table = datasets.load_dataset("parquet", data_files=str(FIXTURES / "cauldron/data/*.parquet"), split="train")
    table = table.cast_column("images", datasets.List(datasets.Image(decode=False)))  # else JPEG is written anew
    mapped = table.map(normalise, remove_columns=table.column_names)
    collate: Callable[..., Any] = FilaCollator(tiny_processor())
    data = opened("the_cauldron")
    found = collate([mapped[index] for index in range(3)])
    for name, tensor in collate([data[index] for index in range(3)]).items():
        assert torch.equal(tensor, found[name]), name
