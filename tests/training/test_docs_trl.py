# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The code of docs/trl.md and docs/packing.md runs as it stands there, on a tiny checkpoint."""

import re
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from tests.helpers import tiny_model, tiny_processor
from tests.training.samples import make_samples
from tests.training.test_other_trainers import preferences
from tests.training.test_trl_rollouts import prompts, some_reward

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* deprecated:FutureWarning")


@pytest.mark.parametrize("page", ["trl", "packing"])
def test_the_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model().save_pretrained(tmp_path / "my-checkpoint")
    tiny_processor().save_pretrained(tmp_path / "my-checkpoint")
    original = TrainingArguments.__post_init__

    def quiet(self: Any) -> None:
        self.report_to, self.disable_tqdm, self.dataloader_pin_memory, self.bf16 = "none", True, False, False
        original(self)

    monkeypatch.setattr(TrainingArguments, "__post_init__", quiet)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"reward": some_reward, "preferences": preferences()}
    names |= {"data": prompts() if page == "trl" else make_samples(4), "model": tiny_model()}
    names["processor"] = tiny_processor()
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == {"trl": 2, "packing": 1}[page]
    for block in blocks:
        exec(block, names)
        assert names["trainer"].state.global_step == 1
