# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Callback that evaluates during training.

It has its own file, because transformers' callbacks import peft and bitsandbytes, which evaluation does not need.
"""

from collections.abc import Sequence
from typing import Any, cast

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.processing_fila import FilaProcessor

from .data import Question
from .evaluation import Score, answer_questions, score_buckets


class GenerativeEvalCallback(TrainerCallback):
    """Callback that evaluates the model during training and logs the scores to all of `report_to`.

    Args:
        trainer: Trainer that logs the scores; add the callback to it.
        questions: Questions of each evaluation.
        every: Steps between two evaluations; another one follows the last step.
        options: Options of `answer_questions`.
    """

    def __init__(self, trainer: Trainer, questions: Sequence[Question], *, every: int, **options: Any) -> None:
        if every < 1:
            raise ValueError(f"`every` must be a positive number of steps; got {every}.")
        self.trainer, self.questions, self.every, self.options = trainer, questions, every, options
        self.scores: dict[str, dict[str, Score]] = {}

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: FilaForConditionalGeneration | None = None,
        **kwargs: object,
    ) -> None:
        """Evaluate every `every` steps and after the last step."""
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        asked = cast(FilaForConditionalGeneration, model)
        processor = cast(FilaProcessor, self.trainer.processing_class)
        self.scores = score_buckets(list(answer_questions(asked, processor, self.questions, **self.options)))
        total = self.scores["all"]["all"]
        logs = {"eval_exact_match": total.exact_match, "eval_character_error_rate": total.character_error_rate}
        for split, found in self.scores.items():
            if split != "all":
                logs |= {f"eval_exact_match/{split}/{label}": each.exact_match for label, each in found.items()}
        should_log = control.should_log
        self.trainer.log(logs)
        control.should_log = should_log  # otherwise Trainer would take the step's loss as logged
