# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The model `fila` of lmms-eval, which finds this module through the entry points of its group `lmms_eval.models`.

lmms-eval is imported only when it asks for the manifest or the class, so that everything can import this module.
"""

import functools
import json
import types
from collections.abc import Sequence
from typing import Any

import torch
from tqdm.auto import tqdm

from fila.cli.ask import load_checkpoint
from fila.conversion.own_parts import load_parts
from fila.training.answering import Answerer, Generated
from fila.training.collator import read_sample
from fila.training.data import Question, questions_of
from fila.training.data_rows import image_size
from fila.training.sampler import resolution_key

_TAKEN = ("max_new_tokens", "num_beams", "top_k", "top_p")  # of a task's `generation_kwargs`, as `generate` has them


def manifest() -> Any:
    """Return what lmms-eval registers."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="fila", chat_class_path="fila.lmms_plugin.Fila")


def __getattr__(name: str) -> Any:
    if name == "Fila":
        return _model_class()
    raise AttributeError(name)


@functools.cache
def _model_class() -> Any:
    from lmms_eval.api.model import lmms

    return types.new_class("Fila", (AskedByLmmsEval, lmms))


class AskedByLmmsEval:
    """Checkpoint that lmms-eval asks.

    Args:
        pretrained: Folder or Hub id.
        device: Name of a torch device, or "auto".
        batch_size: Questions per call of `generate`.
        dtype: As of `fila evaluate`.
        trust_remote_code: Whether to run code in the checkpoint that is not fila's.
        max_batch_size: Not used; lmms-eval passes it to every model.
    """

    is_simple = False
    _rank: int
    _world_size: int
    task_dict: dict[str, Any]

    def __init__(
        self,
        pretrained: str,
        device: str | None = None,
        batch_size: int | str = 8,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
            from accelerate import Accelerator

            self.accelerator = Accelerator()
            self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
            device = device if device == "cpu" else str(self.accelerator.device)
        if trust_remote_code:
            load_parts(pretrained, trust_remote_code=True)
        self._model, self.processor = load_checkpoint(pretrained, device=device or "auto", dtype=dtype)
        self.batch_size = int(batch_size)

    @property
    def model(self) -> Any:
        """Return the model."""
        return self._model

    @property
    def tokenizer(self) -> Any:
        """Return the tokenizer."""
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        """Return the device of the model."""
        return self._model.device

    @property
    def rank(self) -> int:
        """Return the number of this process."""
        return self._rank

    @property
    def world_size(self) -> int:
        """Return the number of processes."""
        return self._world_size

    def generate_until(self, requests: list[Any]) -> list[Any]:
        """Answer requests; the answers are in the order of the requests."""
        asked = [self._question(request) for request in requests]
        settings = [json.dumps(request.args[2], sort_keys=True) for request in requests]
        image_processor = self.processor.image_processor
        sizes = [[image_size(image, image_processor.page_size) for image in one.images] for one in asked]
        keys = [resolution_key(each, image_processor) for each in sizes]
        answers: dict[int, Any] = {}
        with tqdm(total=len(requests), unit=" questions", disable=self.rank != 0) as bar:
            for setting in dict.fromkeys(settings):
                options = json.loads(setting)
                answer = Answerer(self._model, self.processor, **_generation(options))
                own = sorted((n for n, other in enumerate(settings) if other == setting), key=keys.__getitem__)
                for start in range(0, len(own), self.batch_size):
                    batch = own[start : start + self.batch_size]
                    for number, found in zip(batch, answer([asked[number] for number in batch]), strict=True):
                        answers[number] = _result(found, options.get("until") or ())
                    bar.update(len(batch))
        return [answers[number] for number in range(len(requests))]

    def _question(self, request: Any) -> Question:
        from lmms_eval.protocol import ChatMessages

        _, doc_to_messages, _, doc_id, task, split = request.args
        messages = ChatMessages(messages=doc_to_messages(self.task_dict[task][split][doc_id])).to_hf_messages()
        sample = read_sample({"messages": messages}, f"Document {doc_id} of {task}")
        *_, question = questions_of(sample, doc_id, unanswered=True)
        return question

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Refuse tasks that compare likelihoods."""
        raise NotImplementedError(
            "fila answers tasks of the type `generate_until` only; this one has `loglikelihood`."
        )

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Refuse tasks of several rounds."""
        raise NotImplementedError("fila answers tasks of the type `generate_until` only, in one round.")


def _generation(options: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of `generate` from a task's `generation_kwargs`; a temperature of 0 or none is greedy."""
    found = {name: options[name] for name in _TAKEN if options.get(name) is not None}
    if temperature := options.get("temperature"):
        return {"max_new_tokens": 256, **found, "do_sample": True, "temperature": temperature}
    return {"max_new_tokens": 256, **{name: value for name, value in found.items() if not name.startswith("top_")}}


def _result(found: Generated, until: str | Sequence[str]) -> Any:
    from lmms_eval.api.instance import GenerationResult, TokenCounts

    text = found.text
    for end in [until] if isinstance(until, str) else until:
        text = text.partition(end)[0] if end else text
    return GenerationResult(text=text.strip(), token_counts=TokenCounts(output_tokens=found.tokens))
