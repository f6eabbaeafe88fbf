# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from typing import Any

import pytest
import torch

from fila.modeling.connector import CONNECTORS
from fila.modeling.modeling_cache_name import CACHE_NAME
from fila.modeling.video_features import videos_of
from tests.contract.settings import connector_settings
from tests.helpers import assert_close, random_image, single_tower, tiny_model
from tests.tiny_videos import VIDEO_TOKEN_ID, video_model, video_processor, video_settings

STC = {"type": "stc", "depth": 1, "image_frames": 3}


def frames(count: int, seed: int = 0, size: tuple[int, int] = (28, 30)) -> list[Any]:
    return [random_image(*size, seed=seed * 100 + index) for index in range(count)]


def connector_model(name: str) -> Any:
    changes = connector_settings(name)
    connector = changes.pop("connector", {"type": name})
    if "text_config" in changes:
        changes["text_config"] = changes["text_config"] | {"vocab_size": VIDEO_TOKEN_ID + 1}
    return video_model(connector, **changes)


@pytest.mark.parametrize("name", CONNECTORS)
@torch.no_grad()
def test_placeholders_are_as_many_as_tokens(name: str) -> None:
    model = connector_model(name)
    batch = video_processor(model)(
        text=["a <video> b", "<video><video> c"],
        videos=[frames(3), frames(5, 1), frames(2, 2)],
        padding=True,
        return_tensors="pt",
    )
    lengths = [len(tokens) for tokens in model.get_video_features(**videos_only(batch)).pooler_output]
    assert int((batch["input_ids"] == VIDEO_TOKEN_ID).sum()) == sum(lengths)
    assert model(**batch).logits.isfinite().all()


def videos_only(batch: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch.items() if "video" in name}


@pytest.mark.parametrize(
    "connector", [STC, {"type": "mlp"}, {"type": "mlp", "over_time": "mean"}, {"type": "dual_path"}]
)
@torch.no_grad()
def test_chunks_give_the_tokens_of_the_whole(connector: dict[str, Any]) -> None:
    model = video_model(connector)
    batch = videos_only(video_processor(model)(videos=[frames(7), frames(4, 1)], return_tensors="pt"))
    whole = model.get_video_features(**batch)
    assert whole.last_hidden_state.shape[0] == 11
    model.model.frames_per_chunk = 2
    calls: list[int] = []
    model.model.vision_tower.register_forward_hook(
        lambda module, inputs, output: calls.append(len(output.last_hidden_state))
    )
    chunked = model.get_video_features(**batch)
    assert chunked.last_hidden_state is None
    assert max(calls) <= 4
    for ours, expected in zip(chunked.pooler_output, whole.pooler_output, strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize(
    "connector", [STC, {"type": "mlp", "over_time": "mean"}, {"type": "mlp"}, {"type": "dual_path"}]
)
@pytest.mark.parametrize("frames_per_chunk", [2, 32])
@torch.no_grad()
def test_videos_of_different_size_keep_out_of_each_others_way(
    connector: dict[str, Any], frames_per_chunk: int
) -> None:
    model = video_model(connector)
    model.model.frames_per_chunk = frames_per_chunk
    processor = video_processor(model, frames={"canvas": {"type": "native", "patch_size": 7}})
    videos = [frames(3, size=(28, 28)), frames(3, 1, size=(14, 35))]
    together = model.get_video_features(**videos_only(processor(videos=videos, return_tensors="pt"))).pooler_output
    for video, tokens in zip(videos, together, strict=True):
        (alone,) = model.get_video_features(
            **videos_only(processor(videos=[video], return_tensors="pt"))
        ).pooler_output
        assert_close(tokens, alone)


def test_beams_without_a_video_token_say_so() -> None:
    model = video_model(STC)
    batch = video_processor(model)(text="a <video> b", videos=[frames(3)], return_tensors="pt")
    model.config.video_token_id = None
    with pytest.raises(ValueError, match="a model without a video placeholder"):
        model.generate(**batch, max_new_tokens=2, num_beams=2)


@torch.no_grad()
def test_images_and_videos_are_mixed_in_a_batch() -> None:
    model = video_model(STC)
    processor = video_processor(model)
    text = ["<image> x <video>", "<video> y", "<image><image> z"]
    images = [[random_image(30, 50)], [], [random_image(28, 28, 1), random_image(50, 20, 2)]]
    videos = [frames(3), frames(5, 1)]
    sides = {"padding": True, "padding_side": "right"}
    together = model(**processor(text=text, images=images, videos=videos, **sides, return_tensors="pt")).logits
    alone = [
        processor(text=text[0], images=images[0], videos=[videos[0]], return_tensors="pt"),
        processor(text=text[1], videos=[videos[1]], return_tensors="pt"),
        processor(text=text[2], images=images[2], return_tensors="pt"),
    ]
    for row, batch in zip(together, alone, strict=True):
        logits = model(**batch).logits[0]
        assert_close(row[: len(logits)], logits, 1e-4)


@torch.no_grad()
def test_frame_of_many_views_is_an_image_of_many_views() -> None:
    model = video_model({"type": "mlp"})
    canvas = {"type": "minicpm", "patch_size": 7, "max_slices": 2}
    processor = video_processor(model, frames={"canvas": canvas}, token_size=7, layout={"type": "llava_uhd"})
    clip = [random_image(30, 70), random_image(70, 30, 1)]
    batch = processor(text="<video>", videos=[clip], return_tensors="pt")
    assert batch["video_patch_grids"].shape[1] == 2
    tokens = model.get_video_features(**videos_only(batch)).pooler_output[0]
    assert len(tokens) == int((batch["input_ids"] == VIDEO_TOKEN_ID).sum())
    own = processor.image_processor.__class__(size={"height": 28, "width": 28}, canvas=canvas, high_res_size=None)
    images = own(clip, return_tensors="pt")
    expected = model.get_image_features(**images).pooler_output
    ordered = torch.cat(expected)[batch["video_token_index"][0]]
    assert_close(tokens, ordered)


@torch.no_grad()
def test_high_res_tower_sees_frames_too() -> None:
    settings = video_settings({"type": "mlp"})
    for name in single_tower():
        settings.pop(name)
    both = tiny_model(**settings)
    batch = video_processor(both)(text="<video>", videos=[frames(3)], return_tensors="pt")
    images = both.get_image_features(
        batch["pixel_values_videos"][0],
        batch["video_view_boxes"][0],
        batch["video_tile_grid"][0],
        high_res_pixel_values=batch["video_high_res_pixel_values"][0],
        high_res_sizes=batch["video_high_res_sizes"][0],
    )
    assert_close(
        both.get_video_features(**videos_only(batch)).pooler_output[0], torch.cat(list(images.pooler_output)), 1e-5
    )


def generated(model: Any, batch: Any, **options: Any) -> list[list[int]]:
    tokens: Any = model.generate(**batch, max_new_tokens=5, do_sample=False, eos_token_id=None, **options)
    return [list(row) for row in tokens[:, batch["input_ids"].shape[1] :].tolist()]


@pytest.mark.parametrize("shared", [False, True])
def test_generate_equals_repeated_forward_passes(shared: bool) -> None:
    model = video_model({"type": "conv_glu"}, shared_positions=shared)
    processor = video_processor(model, video_layout={"type": "frame_index"})
    batch = processor(text="a <video> b", videos=[frames(3)], return_tensors="pt")
    ids = batch["input_ids"]
    rest = {name: value for name, value in batch.items() if name not in ("input_ids", "attention_mask")}
    expected = []
    with torch.no_grad():
        for _ in range(5):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **rest).logits
            expected.append(int(logits[0, -1].argmax()))
            ids = torch.cat([ids, torch.tensor([[expected[-1]]])], dim=1)
    assert generated(model, batch) == [expected]


def test_beams_keep_each_samples_videos() -> None:
    model = video_model(STC)
    processor = video_processor(model)
    texts, videos = ["a <video>", "<video> b <video>"], [frames(3), frames(5, 1), frames(4, 2)]
    together = processor(text=texts, videos=videos, padding=True, padding_side="left", return_tensors="pt")
    alone = [
        processor(text=texts[0], videos=videos[:1], return_tensors="pt"),
        processor(text=texts[1], videos=videos[1:], return_tensors="pt"),
    ]
    expected = [generated(model, batch, num_beams=2)[0] for batch in alone]
    assert generated(model, together, num_beams=2) == expected


def test_shared_positions_change_the_answer_and_save_range() -> None:
    model = video_model({"type": "conv_glu"}, shared_positions=True)
    batch = video_processor(model)(text="a <video> b", videos=[frames(3)], return_tensors="pt")
    positions = model.model.shared_position_ids(batch["input_ids"], batch["attention_mask"])
    # two letters of text on each side; the frames' runs are one run without text between them
    assert int(positions.max()) + 1 == 7
    with torch.no_grad():
        shared = model(**batch).logits
        model.config.shared_positions = False
        assert (model(**batch).logits - shared).abs().max() > 1e-3


def test_embeddings_made_by_the_caller_share_positions_too() -> None:
    model = video_model({"type": "conv_glu"}, shared_positions=True)
    batch = video_processor(model)(text="a <video> b", videos=[frames(3)], return_tensors="pt")
    expected = generated(model, batch)
    with torch.no_grad():
        logits = model(**batch).logits
        ids = batch.pop("input_ids")
        embeds = model.get_input_embeddings()(ids)
        assert_close(model(inputs_embeds=embeds, **batch).logits, logits)
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    assert model.generate(inputs_embeds=embeds, **batch, **options).tolist() == expected


def test_shared_positions_go_on_beside_a_cache() -> None:
    model = video_model({"type": "conv_glu"}, shared_positions=True)
    batch = video_processor(model)(text="a <video> b", videos=[frames(3)], return_tensors="pt")
    expected = generated(model, batch)[0]
    with torch.no_grad():
        prompt = model(**batch, use_cache=True)
        first = prompt.logits[:, -1:].argmax(-1)
        with pytest.raises(ValueError, match="needs `position_ids` beside a cache of 22 tokens"):
            model(input_ids=first, cache=prompt[CACHE_NAME])
        last = model.model.shared_position_ids(batch["input_ids"], batch["attention_mask"]).max()
        step = model(input_ids=first, cache=prompt[CACHE_NAME], position_ids=(last + 1).view(1, 1))
    assert [int(first), int(step.logits.argmax())] == expected[:2]


def test_generate_goes_on_from_a_cache_with_shared_positions() -> None:
    model = video_model({"type": "conv_glu"}, shared_positions=True)
    batch = video_processor(model)(text="a <video> b", videos=[frames(3)], return_tensors="pt")
    options: dict[str, Any] = {"do_sample": False, "eos_token_id": None}
    begun = model.generate(**batch, max_new_tokens=2, return_dict_in_generate=True, **options)
    rest = {CACHE_NAME: begun[CACHE_NAME], "max_new_tokens": 3, **options}
    whole = torch.ones_like(begun.sequences)
    ended = model.generate(input_ids=begun.sequences, attention_mask=whole, **rest)
    assert ended[0, 22:].tolist() == generated(model, batch)[0]
    with pytest.raises(ValueError, match="needs `position_ids` beside a cache of 26 tokens"):
        model.generate(input_ids=begun.sequences[:, -1:], attention_mask=torch.ones(1, 27), **rest)


def test_shared_positions_are_no_borders_of_packed_sequences() -> None:
    # transformers takes positions that do not count up for such, where there is neither a mask nor a cache
    model = video_model({"type": "conv_glu"}, shared_positions=True)
    batch = video_processor(model)(text="a <video> b", videos=[frames(3)], return_tensors="pt")
    with torch.no_grad():
        expected = model(**batch).logits
        mask = batch.pop("attention_mask")
        torch.testing.assert_close(model(**batch, use_cache=False).logits, expected)
    batch["attention_mask"] = mask
    assert generated(model, batch, use_cache=False) == generated(model, batch)


def test_gradient_reaches_tower_and_connector() -> None:
    model = video_model(STC).train()
    batch = video_processor(model)(text="a <video> b", videos=[frames(5)], return_tensors="pt")
    model(**batch, labels=batch["input_ids"]).loss.backward()
    for part in (model.model.vision_tower, model.model.multi_modal_projector):
        assert [name for name, p in part.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_model_without_video_token_names_it() -> None:
    model = video_model(STC)
    batch = video_processor(model)(text="<video>", videos=[frames(3)], return_tensors="pt")
    model.config.video_token_id = None
    with pytest.raises(ValueError, match=r"passed to a model without a video placeholder. Set `video_token_id`"):
        model(**batch)


def test_too_few_placeholders_are_named_as_the_videos() -> None:
    model = video_model(STC)
    batch = video_processor(model)(text="<video>", videos=[frames(3)], return_tensors="pt")
    batch["input_ids"][0, 0] = 9
    with pytest.raises(ValueError, match=r"Video 0 has \d+ video tokens, but sample 0 holds only \d+ placeholders"):
        model(**batch)


@torch.no_grad()
def test_frames_of_several_views_are_refused_where_tiles_have_places() -> None:
    model = video_model({"type": "mlp"}, slice_positions=9)
    tiled = video_processor(model, frames={"canvas": {"type": "fila"}}).video_processor
    batch = tiled([[random_image(28, 60)]], return_tensors="pt")
    message = r"`slice_positions`, which videos do not send, needs one view per frame; a video has frames of 4 views"
    with pytest.raises(ValueError, match=message):
        model.get_video_features(**batch)
    single = video_processor(model).video_processor([[random_image(28, 60)]], return_tensors="pt")
    assert len(model.get_video_features(**single).pooler_output[0]) == model.model.tokens_per_tile


def test_frames_of_several_views_are_refused_where_frames_are_joined() -> None:
    model = video_model(STC)
    processor = video_processor(model, frames={"canvas": {"type": "fila"}})
    batch = processor.video_processor([[random_image(28, 60)]], return_tensors="pt")
    with pytest.raises(ValueError, match=r"needs one view per frame; a video has frames of 4 views"):
        model.get_video_features(**batch)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"pixel_values_videos": torch.zeros(1, 2, 1, 3, 28, 28)},
            r"came without \['video_view_boxes', 'video_tile_g",
        ),
        (
            {
                "pixel_values_videos": torch.zeros(1, 2, 1, 3, 28, 28),
                "video_view_boxes": torch.zeros(1, 2, 1, 4),
                "video_tile_grid": torch.ones(1, 2, 2),
            },
            r"Video 0 has no frame",
        ),
    ],
)
def test_videos_of_rejects(inputs: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        videos_of(inputs)
