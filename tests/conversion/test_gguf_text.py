# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer

from fila.conversion import assemble
from fila.conversion.gguf_text import convert_gguf, find_gguf
from tests.conversion.parts import BYTES

HIDDEN, INNER, HEADS, LAYERS = 24, 31, 4, 2


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write a tiny LLaMA with a byte tokenizer as GGUF and return its tensors under their GGUF names."""
    tokens = ["<unk>", "<s>", "</s>", *BYTES, "ab", "abc"]
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b", "ab c"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), HIDDEN), "output_norm": (HIDDEN,), "output": (len(tokens), HIDDEN)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}": (HIDDEN, HIDDEN) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"blk.{layer}.{name}": (INNER, HIDDEN) for name in ("ffn_gate", "ffn_up")}
        shapes |= {f"blk.{layer}.ffn_down": (HIDDEN, INNER)}
        shapes |= {f"blk.{layer}.{name}": (HIDDEN,) for name in ("attn_norm", "ffn_norm")}
    tensors = {f"{name}.weight": rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_convert_gguf_writes_a_plain_checkpoint(tmp_path: Path) -> None:
    tensors = write_gguf(tmp_path / "x.gguf")
    convert_gguf(tmp_path, "x.gguf", tmp_path / "out", dtype=torch.float32)
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(model.model.embed_tokens.weight, torch.from_numpy(tensors["token_embd.weight"]))
    assert torch.equal(model.model.layers[1].mlp.up_proj.weight, torch.from_numpy(tensors["blk.1.ffn_up.weight"]))
    assert "quantization_config" not in (tmp_path / "out" / "config.json").read_text()


def test_convert_gguf_takes_the_special_tokens_from_the_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf")
    convert_gguf(tmp_path, "x.gguf", tmp_path / "out", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "</s>")
    assert tokenizer.decode(tokenizer("Ein Bär.").input_ids, skip_special_tokens=True) == "Ein Bär."


def test_convert_gguf_names_a_damaged_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf")
    whole = (tmp_path / "x.gguf").read_bytes()
    for damaged in (b"", b"GGUF", b"dear sirs", whole[:300]):
        (tmp_path / "x.gguf").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^x\.gguf cannot be read as a language model in GGUF \("):
            convert_gguf(tmp_path, "x.gguf", tmp_path / "out", dtype=torch.float32)


def test_find_gguf(tmp_path: Path) -> None:
    assert find_gguf(tmp_path) is None
    (tmp_path / "x.gguf").touch()
    assert find_gguf(tmp_path) == (tmp_path, "x.gguf")
    assert find_gguf(tmp_path / "x.gguf") == (tmp_path, "x.gguf")
    assert find_gguf("owner/name") is None
    (tmp_path / "model.safetensors").touch()
    assert find_gguf(tmp_path) is None


def test_a_named_gguf_file_is_the_one_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x.gguf", "y.gguf"):
        (tmp_path / name).touch()
    assert assemble._named_gguf(tmp_path, "y.gguf") == (tmp_path, "y.gguf")
    with pytest.raises(ValueError, match=r"has no file 'z\.gguf'"):
        assemble._named_gguf(tmp_path, "z.gguf")
    asked: list[Any] = []

    def download(repo_id: str, name: str, revision: str | None) -> str:
        asked.append((repo_id, name, revision))
        return str(tmp_path / name)

    monkeypatch.setattr(assemble, "hf_hub_download", download)
    assert assemble._named_gguf("owner/name@v1", "y.gguf") == (tmp_path, "y.gguf")
    assert asked == [("owner/name", "y.gguf", "v1")]


def test_find_gguf_rejects_a_choice(tmp_path: Path) -> None:
    for name in ("x.gguf", "y.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"has 2 GGUF files, e\.g\. 'x\.gguf'; name one"):
        find_gguf(tmp_path)
