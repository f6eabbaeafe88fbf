# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Original checkpoints in, ours out, and back: nothing is left over, and the model answers."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from fila.conversion import pretrained_part as part
from fila.conversion.export_checkpoint import export_checkpoint
from fila.conversion.import_checkpoint import import_checkpoint, open_source
from tests.conversion.originals import ORIGINALS, import_settings, write_original
from tests.conversion.parts import write_clip, write_convnext
from tests.helpers import random_image


def imported(folder: Path, name: str, **changes: Any) -> Path:
    settings = import_settings(ORIGINALS[name], folder / "theirs")
    return import_checkpoint(folder / "theirs", folder / "ours", progress=False, **{**settings, **changes})


@pytest.mark.parametrize("name", ORIGINALS)
def test_import_answers_and_exports_what_came_in(name: str, tmp_path: Path) -> None:
    state = write_original(tmp_path / "theirs", ORIGINALS[name])
    folder = imported(tmp_path, name)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    assert model.config.preprocessing == processor.preprocessing()
    content = [{"type": "image", "image": random_image(53, 97)}, {"type": "text", "text": "What?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    answer = model.generate(**inputs, max_new_tokens=1, do_sample=False)
    assert answer.shape[1] == inputs["input_ids"].shape[1] + 1
    export_checkpoint(folder, tmp_path / "back", original=tmp_path / "theirs", progress=False)
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert set(back) == {key for key in state if "rope" not in key and "rotary" not in key}  # constants are computed
    assert all(torch.equal(tensor, state[key]) for key, tensor in back.items())
    theirs = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == theirs


def test_what_was_left_behind_needs_the_original(tmp_path: Path) -> None:
    write_original(tmp_path / "theirs", ORIGINALS["mini-gemini-hd"])
    folder = imported(tmp_path, "mini-gemini-hd")
    assert (
        "1 tensors of theirs (a layer behind the one that the connector reads)" in (folder / "README.md").read_text()
    )
    with pytest.raises(RuntimeError, match=r"left 2 tensors behind, e\.g\..*Pass `original`"):
        export_checkpoint(folder, tmp_path / "back", progress=False)


def test_leftover_missing_and_misshapen_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs" / "model.safetensors"
    state = write_original(tmp_path / "theirs", ORIGINALS["llava-next"])
    save_file({**state, "model.extra.weight": torch.zeros(3)}, path)
    with pytest.raises(RuntimeError, match=r"1 keys of theirs were not consumed, e\.g\. 'model\.extra\.weight'"):
        imported(tmp_path, "llava-next")
    save_file({key: tensor for key, tensor in state.items() if key != "model.mm_projector.0.bias"}, path)
    with pytest.raises(
        RuntimeError, match=r"filled by no part, e\.g\. 'model\.multi_modal_projector\.linear_1\.bias'"
    ):
        imported(tmp_path, "llava-next")
    save_file({**state, "model.image_newline": torch.zeros(3)}, path)
    with pytest.raises(RuntimeError, match=r"must have shape \(24,\).*gives \(3,\)"):
        imported(tmp_path, "llava-next")
    assert not (tmp_path / "ours").exists()


def test_another_system_is_refused(tmp_path: Path) -> None:
    write_original(tmp_path / "theirs", ORIGINALS["llava-next"])
    with pytest.raises(ValueError, match="theirs is no checkpoint of mini-gemini"):
        import_checkpoint(tmp_path / "theirs", tmp_path / "ours", system="mini-gemini", progress=False)
    with pytest.raises(
        ValueError, match=r"`system` must be one of \['cogvlm2-video', 'deepseek-ocr', 'deepseek-vl-hybrid'"
    ):
        import_checkpoint(tmp_path / "theirs", tmp_path / "ours", system="llava", progress=False)
    with pytest.raises(ValueError, match=r"VAR's checkpoints are no folders.*`fila import --system var`"):
        import_checkpoint(tmp_path / "theirs", tmp_path / "ours", system="var", progress=False)


def test_shards_and_pickles_give_the_same_weights(tmp_path: Path) -> None:
    original = ORIGINALS["llava-next"]
    state = write_original(tmp_path / "theirs", original)
    expected = load_file(imported(tmp_path, "llava-next") / "model.safetensors")
    write_original(tmp_path / "sharded", original, shards=3)
    write_original(tmp_path / "pickled", original)
    (tmp_path / "pickled" / "model.safetensors").unlink()
    weight_map = {key: f"pytorch_model-{index % 2}.bin" for index, key in enumerate(state)}
    for name in set(weight_map.values()):
        torch.save(
            {key: state[key] for key, shard in weight_map.items() if shard == name}, tmp_path / "pickled" / name
        )
    index = tmp_path / "pickled" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    for name in ("sharded", "pickled"):
        folder = import_checkpoint(
            tmp_path / name, tmp_path / f"{name}-ours", progress=False, max_shard_size="20KB", **original.settings
        )
        found: dict[str, torch.Tensor] = {}
        for shard in folder.glob("*.safetensors"):
            found |= load_file(shard)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
        assert len(list(folder.glob("*.safetensors"))) > 1
        assert not list(folder.glob("*.partial"))


def test_pickles_on_the_hub_are_asked_for_where_there_are_no_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = write_original(tmp_path / "theirs", ORIGINALS["llava-next"])
    (tmp_path / "theirs" / "model.safetensors").unlink()
    torch.save(state, tmp_path / "weights")
    asked = []

    def download(repo_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(any(pattern.endswith(".bin") for pattern in allow_patterns))
        if asked[-1]:
            (tmp_path / "weights").rename(tmp_path / "theirs" / "pytorch_model.bin")
        return str(tmp_path / "theirs")

    monkeypatch.setattr(part, "snapshot_download", download)
    found = open_source("owner/name", tmp_path / "scratch")
    assert asked == [False, True]
    assert found.shapes == {key: tuple(value.shape) for key, value in state.items()}


def test_tokenizer_may_lie_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_original(tmp_path / "theirs", ORIGINALS["llava-next"])
    (tmp_path / "tokens").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "theirs" / name).rename(tmp_path / "tokens" / name)
    with pytest.raises(ValueError, match=r"theirs has no tokenizer that loads without code of its own"):
        imported(tmp_path, "llava-next")
    monkeypatch.setattr(part, "snapshot_download", lambda *_, **__: str(tmp_path / "tokens"))
    assert (imported(tmp_path, "llava-next", tokenizer="owner/name@main") / "tokenizer.json").is_file()


class Harmful:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harmed"),)


def test_pickles_that_hold_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_original(tmp_path / "theirs", ORIGINALS["llava-next"])
    (tmp_path / "theirs" / "model.safetensors").unlink()
    with open(tmp_path / "theirs" / "pytorch_model.bin", "wb") as file:
        pickle.dump({"x": Harmful()}, file)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin cannot be read as weights alone"):
        imported(tmp_path, "llava-next")
    assert not (tmp_path / "harmed").exists()


def test_towers_that_the_original_was_saved_without(tmp_path: Path) -> None:
    path = tmp_path / "theirs" / "model.safetensors"
    state = write_original(tmp_path / "theirs", ORIGINALS["mini-gemini-hd"])
    save_file({key: tensor for key, tensor in state.items() if "vision_tower" not in key}, path)
    clip, convnext = write_clip(tmp_path / "clip"), write_convnext(tmp_path / "convnext", "timm")
    towers = {"low_res_weights": tmp_path / "clip", "high_res_weights": tmp_path / "convnext"}
    with pytest.raises(RuntimeError, match=r"filled by no part, e\.g\. 'model\.vision_tower\.low_res_tower"):
        imported(tmp_path, "mini-gemini-hd")
    found = load_file(imported(tmp_path, "mini-gemini-hd", **towers) / "model.safetensors")
    stem = "model.vision_tower.high_res_tower.embeddings.patch_embeddings.weight"
    assert torch.equal(found[stem], convnext.embeddings.patch_embeddings.weight)
    positions = "model.vision_tower.low_res_tower.embeddings.position_embedding.weight"
    assert torch.equal(found[positions], clip.embeddings.position_embedding.weight)
    save_file(state, path)
    with pytest.raises(RuntimeError, match=r"comes out of theirs, .* and of clip, .*leave one of them out"):
        imported(tmp_path, "mini-gemini-hd", overwrite=True, **towers)


def test_export_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    write_original(tmp_path / "theirs", ORIGINALS["llava-next"])
    with pytest.raises(ValueError, match=r"theirs has no import\.json"):
        export_checkpoint(tmp_path / "theirs", tmp_path / "back", progress=False)
