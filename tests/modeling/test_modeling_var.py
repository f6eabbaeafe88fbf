# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from fila.modeling.modeling_var import guided
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_var import DRAWN, tiny_generator, tiny_var_config

LABELS = torch.tensor([2, 5])


def random_generator(**changes: object):  # type: ignore[no-untyped-def]
    model = tiny_generator(**changes)
    randomise(model, std=0.5)
    return model


@pytest.mark.parametrize("shared", [False, True])
def test_greedy_ids_are_the_likeliest_of_the_teacher_forced_model(shared: bool) -> None:
    model = random_generator(shared_adaln=shared)
    made = model.generate(LABELS, guidance_scale=0.0, do_sample=False, output_logits=True)
    scored = model(LABELS, made.image_ids).logits
    # the cache and the mask sum in other orders: measured 1.2e-6
    assert_close(scored.detach(), torch.cat(made.logits, dim=1), 2e-5)
    assert torch.equal(scored.argmax(-1), torch.cat(made.image_ids, dim=1))


def test_image_is_what_the_ids_decode_to() -> None:
    model = random_generator()
    made = model.generate(LABELS, generator=torch.Generator().manual_seed(3))
    decoded = (model.vq_model.decode(made.image_ids) + 1) / 2
    assert_close(made.images, decoded, DRAWN)
    assert [ids.shape for ids in made.image_ids] == [(2, 1), (2, 4), (2, 16)]


def test_seeds_decide_what_is_drawn() -> None:
    model = random_generator()

    def drawn(seed: int, **options: object) -> torch.Tensor:
        made = model.generate(LABELS, generator=torch.Generator().manual_seed(seed), **options)
        return torch.cat(made.image_ids, dim=1)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert torch.equal(drawn(1, top_k=1), model_greedy(model))
    smooth = model.generate(LABELS, smooth=True, generator=torch.Generator().manual_seed(1))
    assert smooth.images.isfinite().all()


def test_mixtures_hold_the_codes_that_may_be_drawn_alone() -> None:
    model = random_generator()
    one, greedy = model.generate(LABELS, smooth=True, top_k=1), model.generate(LABELS, do_sample=False)
    assert_close(one.images, greedy.images, DRAWN)
    assert not torch.equal(model.generate(LABELS, smooth=True, top_k=2).images, greedy.images)


def model_greedy(model) -> torch.Tensor:  # type: ignore[no-untyped-def]
    return torch.cat(model.generate(LABELS, do_sample=False).image_ids, dim=1)


def test_guidance_moves_away_from_no_class() -> None:
    logits = torch.tensor([[[1.0, 2.0]], [[3.0, 1.0]]])
    assert torch.equal(guided(logits, 0.0), logits[:1])
    assert torch.equal(guided(logits, 2.0), torch.tensor([[[-3.0, 4.0]]]))


def test_a_later_scale_does_not_change_the_scores_of_an_earlier_one() -> None:
    model = random_generator()
    ids = torch.randint(0, 11, (2, 21))
    changed = ids.clone()
    changed[:, 1:5] = (changed[:, 1:5] + 1) % 11  # scale 1, which scale 2 reads
    before, after = model(LABELS, ids).logits, model(LABELS, changed).logits
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5:])


def test_loss_of_pixels_is_the_loss_of_their_ids_and_trains() -> None:
    model = random_generator()
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    by_pixels = model(LABELS, pixel_values=images)
    by_ids = model(LABELS, model.vq_model.encode(images))
    assert_close(by_pixels.loss.detach(), by_ids.loss.detach())
    by_pixels.loss.backward()
    silent = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert {name.split(".")[0] for name in silent} == {"vq_model"}


def test_labels_are_dropped_in_training_only() -> None:
    model = random_generator(class_dropout=1.0, drop_path_rate=0.0)
    ids = torch.randint(0, 11, (2, 21))
    nobody = model(torch.full((2,), 7), ids).logits
    assert not torch.equal(model(LABELS, ids).logits, nobody)
    assert_close(model.train()(LABELS, ids).logits.detach(), nobody.detach())


@pytest.mark.parametrize("shared", [False, True])
def test_saved_model_makes_the_same_image_and_updates_start_near_nothing(shared: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = tiny_generator(shared_adaln=shared)
    x, condition = torch.randn(2, 5, 24), torch.randn(2, 24)
    assert_close(model.blocks[0](x, model._modulation(condition), None, None).detach(), x, 0.01)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    ours, theirs = (each.generate(LABELS, do_sample=False).images for each in (loaded, model))
    assert_close(ours, theirs, DRAWN)


@pytest.mark.parametrize("given", [{}, {"image_ids": torch.zeros(2, 21).long(), "scale_inputs": torch.zeros(1)}])
def test_forward_needs_one_source_of_scales(given: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"Exactly one of `image_ids`, `pixel_values` and `scale_inputs`"):
        tiny_generator()(LABELS, **given)


def test_config_rejects() -> None:
    with pytest.raises(ValueError, match=r"`VarConfig` has no setting `num_clases`; did you mean `num_classes`\?"):
        tiny_var_config(num_clases=5)
    with pytest.raises(ValueError, match=r"`VarVQConfig` has no setting `codebok_size`; did you mean `codebook_size`"):
        tiny_var_config(vq_config={"codebok_size": 5})
    with pytest.raises(ValueError, match=r"`num_attention_heads` must divide `hidden_size`; got 5 and 24"):
        tiny_var_config(num_attention_heads=5)
    with pytest.raises(TypeError, match=r"`vq_config` must be a dict or a VarVQConfig; got int"):
        tiny_var_config(vq_config=3)
