# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""TRL's GRPO and RLOO trainers as they are: each row's log-probabilities are those of a forward pass of it alone."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from fila import FilaForConditionalGeneration, FilaProcessor
from fila.training.scopes import lora_config
from tests.helpers import random_image, tiny_model, tiny_processor
from tests.training.samples import text

# TRL 1.16 uses names of gradient checkpointing that transformers 5.23 calls old; goes with a TRL that does not.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* deprecated:FutureWarning")
# Images of several canvases; none, one and two per prompt.
SIZES: dict[str, list[tuple[int, int]]] = {"a": [(20, 50)], "b": [], "c": [(61, 17), (90, 91)], "d": [(28, 28)]}
SETTINGS: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "num_generations": 2,
    "max_completion_length": 5,
    "learning_rate": 0.0,  # so that every call is of the same weights
    "report_to": "none",
    "disable_tqdm": True,
    "save_strategy": "no",
    "bf16": False,
    "dataloader_pin_memory": False,
    "seed": 3,
}


def pictures(name: str) -> list[Any]:
    return [random_image(*size, seed=number) for number, size in enumerate(SIZES[name])]


def question(name: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": name}]


def prompts() -> datasets.Dataset:
    rows = [{"prompt": question(name), "images": pictures(name)} for name in SIZES]
    return datasets.Dataset.from_list(rows).cast_column("images", datasets.List(datasets.Image()))


def packed_processor() -> FilaProcessor:
    processor = tiny_processor()
    processor.packed_images = True
    return processor


def some_reward(completion_ids: list[list[int]], **kwargs: object) -> list[float]:
    return [float(ids[0] % 7) for ids in completion_ids]


def recorded(trainer: Any) -> list[tuple[Any, ...]]:
    """Note each row of ids and mask whose log-probabilities the trainer computes, and what it gets."""
    calls: list[tuple[Any, ...]] = []
    compute = trainer._get_per_token_logps_and_entropies

    def compute_and_note(model: Any, ids: Any, mask: Any, keep: int, *args: Any, **kwargs: Any) -> Any:
        found = compute(model, ids, mask, keep, *args, **kwargs)
        layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
        adapted = not any(layer.disable_adapters for layer in layers)
        calls.extend((*row, adapted) for row in zip(ids, mask, found[0].detach(), strict=True))
        return found

    trainer._get_per_token_logps_and_entropies = compute_and_note
    return calls


def assert_as_alone(
    calls: list[tuple[Any, ...]], model: FilaForConditionalGeneration, *, all_prompts: bool = True
) -> None:
    """Assert that each row's log-probabilities are those of a forward pass of it alone, of the plain processor."""
    processor = tiny_processor()
    seen = set()
    for ids, mask, actual, _ in calls:
        ids, alone = ids[mask.bool()], (mask[-len(actual) :] == 1)
        name = next(name for name in SIZES if f"user\n{name}" in processor.decode(ids).replace("<image>", ""))
        seen.add(name)
        message = [{"role": "user", "content": [{"type": "image", "image": i} for i in pictures(name)] + [text(name)]}]
        inputs = processor.apply_chat_template(
            message, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        start = inputs["input_ids"].shape[1]
        assert ids[:start].tolist() == inputs["input_ids"][0].tolist()
        inputs["input_ids"], inputs["attention_mask"] = ids[None], torch.ones_like(ids)[None]
        with torch.no_grad():
            logits = model(**inputs).logits[0, start - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, ids[start:, None])[:, 0]
        assert len(expected) == int(alone.sum()) > 0
        torch.testing.assert_close(actual[alone], expected, atol=1e-4, rtol=0)
    assert seen
    assert seen == set(SIZES) or not all_prompts


def trainer_of(folder: Path, kind: str = "grpo", data: Any = None, model: Any = None, **changes: Any) -> Any:
    """A stock trainer on the tiny model, saved, because the reference model is loaded by its name."""
    trainer, settings = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}[kind]
    if model is None:
        tiny_model().save_pretrained(folder / "model")
    keywords = {name: changes.pop(name) for name in ("peft_config", "eval_dataset") if name in changes}
    return trainer(
        model or str(folder / "model"),
        reward_funcs=some_reward,
        args=settings(str(folder), **(SETTINGS | changes)),
        train_dataset=prompts() if data is None else data,
        processing_class=packed_processor(),
        **keywords,
    )


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("grpo", {"beta": 0.1, "steps_per_generation": 2}),
        pytest.param("grpo", {}, marks=pytest.mark.nightly),
        pytest.param("grpo", {"beta": 0.05, "num_iterations": 2, "max_steps": 4}, marks=pytest.mark.nightly),
        pytest.param("grpo", {"gradient_accumulation_steps": 2}, marks=pytest.mark.nightly),
        ("rloo", {"beta": 0.0}),
        pytest.param("rloo", {"beta": 0.1, "steps_per_generation": 2}, marks=pytest.mark.nightly),
    ],
)
def test_log_probabilities_are_those_of_each_row_alone(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, kind, **changes)
    calls = recorded(trainer)
    trainer.train()
    assert_as_alone(calls, tiny_model())


@pytest.mark.nightly
def test_two_processes_are_exact_too(tmp_path: Path) -> None:
    from tests.training import two_rollouts

    two_rollouts.run(tmp_path)
    assert {path.name for path in tmp_path.glob("*.done")} == {"0.done", "1.done"}


@pytest.mark.nightly
def test_evaluation_is_exact_too(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, eval_dataset=prompts(), per_device_eval_batch_size=4)
    calls = recorded(trainer)
    assert "eval_reward" in trainer.evaluate()
    assert_as_alone(calls, tiny_model())


def test_adapters_train_and_the_reference_is_the_model_without_them(tmp_path: Path) -> None:
    model = tiny_model()
    config = lora_config(model, ["text"], r=2)
    trainer = trainer_of(tmp_path, model=model, peft_config=config, beta=0.1, learning_rate=0.1)
    calls = recorded(trainer)
    trainer.train()
    assert any(entry.get("kl", 0) > 1e-4 for entry in trainer.state.log_history)
    # The reference's are those with the adapters off, which is the model as it was.
    reference = [call for call in calls if not call[3]]
    assert_as_alone(reference, tiny_model())


@pytest.mark.parametrize("column", ["none", "lists", "one"])
def test_prompts_of_text_alone(column: str, tmp_path: Path) -> None:
    columns: dict[str, Any] = {"none": {}, "lists": {"images": []}, "one": {"image": None}}
    rows = datasets.Dataset.from_list([{"prompt": question(name)} | columns[column] for name in "abcd"])
    trainer = trainer_of(tmp_path, data=rows, max_steps=1, mask_truncated_completions=True)
    trainer.train()
    assert trainer.state.global_step == 1


def test_a_processor_that_is_not_packed_is_refused_with_the_line_that_packs_it(tmp_path: Path) -> None:
    rows = [{"prompt": question("a"), "images": pictures("a")} for _ in range(4)]
    trainer = trainer_of(
        tmp_path, data=datasets.Dataset.from_list(rows).cast_column("images", datasets.List(datasets.Image()))
    )
    trainer.processing_class.packed_images = False
    with pytest.raises(ValueError, match=r"`packed_images = True`"):
        trainer.train()
