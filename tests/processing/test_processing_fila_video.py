# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from fila import FilaProcessor, FilaVideoProcessor
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from fila.systems.recipes import chat_template, load_recipe
from tests.goldens import tensors_of
from tests.helpers import TILE, random_image, tiny_config, tiny_image_processor, tiny_tokenizer
from tests.processing.videos import pictures, video_bytes
from tests.tiny_videos import VIDEO_TOKEN_ID, video_tokenizer

FRAMES = {"size": {"height": TILE, "width": TILE}, "sampling": {"type": "seconds", "num_frames": 3}}


def processor(**settings: Any) -> FilaProcessor:
    return FilaProcessor(
        tiny_image_processor(high_res_size=None, canvas={"type": "single"}),
        video_tokenizer(),
        **{
            "tokens_per_tile": 5,
            "video_processor": FilaVideoProcessor(**FRAMES),
            "chat_template": DEFAULT_CHAT_TEMPLATE,
        }
        | settings,
    )


def decoded(processor: FilaProcessor, batch: Any) -> str:
    text: str = processor.tokenizer.decode(batch["input_ids"][0])
    return text.replace("<video>", "v").replace("<image>", "i")


def test_cogvlm2_prompt_golden() -> None:
    """Runs of 66 placeholders, after each the frame's number, as recorded with a tokenizer of our own kind."""
    checked = 0
    for metadata, tensors in tensors_of("cogvlm2video_layout.safetensors"):
        frames = [random_image(20, 30, index) for index in range(tensors["in/video"].shape[1])]
        for case, options in json.loads(metadata["cases"]).items():
            chat = options["template_version"] == "chat"
            types, recorded = (tensors[f"out/{case}.{name}"].tolist() for name in ("token_type_ids", "input_ids"))
            layout = {"type": "frame_index" if chat else "plain"}
            ours = processor(tokens_per_tile=types.count(1) // len(frames), video_layout=layout)
            ids = ours(text="<video>", videos=[frames], return_tensors="pt")["input_ids"][0]
            end = len(types) - types[::-1].index(1) + chat  # the last frame, in a chat with its number behind it
            # the recorded tokenizer has one id per number, ours one per digit
            written = ["v" if type_ == 1 else str(id_ - 1000) for id_, type_ in zip(recorded, types, strict=True)]
            found = ["v" if id_ == VIDEO_TOKEN_ID else ours.tokenizer.decode([id_]) for id_ in ids.tolist()]
            assert "".join(found) == "".join(written[1:end]), case  # behind the bos token
            checked += 1
    assert checked >= 5


def test_cogvlm2_answer_labels_golden() -> None:
    """Prompt, video and answer in a row, of which the answer and the end of text alone are learned."""
    checked = 0
    for metadata, tensors in tensors_of("cogvlm2video_layout.safetensors"):
        frames = [random_image(20, 30, index) for index in range(tensors["in/video"].shape[1])]
        for case, options in json.loads(metadata["cases"]).items():
            if f"out/{case}.labels" not in tensors:
                continue
            ours = processor(
                tokens_per_tile=tensors[f"out/{case}.token_type_ids"].tolist().count(1) // len(frames),
                video_layout={"type": "frame_index"},
                chat_template=chat_template(load_recipe("cogvlm2-video")),
            )
            content = [{"type": "video", "video": frames}, {"type": "text", "text": options["query"]}]
            turns = [{"role": "user", "content": content}, {"role": "assistant", "content": options["answer"]}]
            batch = ours.apply_chat_template(
                turns, tokenize=True, return_dict=True, return_tensors="pt", return_assistant_tokens_mask=True
            )
            names = {128000: "b", 128001: "e", 128002: "v"}
            recorded, labels = (tensors[f"out/{case}.{name}"].tolist() for name in ("input_ids", "labels"))
            # a letter's id is its code point, a number's 1000 more than the number
            text = [names.get(id_) or (chr(id_) if id_ < 1000 else str(id_ - 1000)) for id_ in recorded]
            own = {ours.tokenizer.bos_token_id: "b", ours.tokenizer.eos_token_id: "e", VIDEO_TOKEN_ID: "v"}
            found = [own.get(id_) or ours.tokenizer.decode([id_]) for id_ in batch["input_ids"][0].tolist()]
            learned = torch.as_tensor(batch["assistant_masks"])[0].tolist()
            assert list(zip(found, learned, strict=True)) == [
                (letter, int(label != -100)) for letter, label in zip(text, labels, strict=True)
            ], case
            checked += 1
    assert checked >= 1


def test_chat_template_takes_videos(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(video_bytes(25))
    content = [
        {"type": "video", "path": str(tmp_path / "clip.mp4")},
        {"type": "image", "image": random_image(28, 28)},
        {"type": "text", "text": "What <video>?"},
    ]
    ours = processor(video_layout={"type": "timestamps"})
    batch = ours.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
    )
    run = "v" * 5
    expected = f"0.0s: {run}\n1.0s: {run}\n2.0s: {run}\niiiiiWhat < video>?"
    assert decoded(ours, batch) == f"<|im_start|>user\n{expected}<|im_end|>\n"
    assert batch["pixel_values_videos"].shape[:2] == (1, 3)


def test_call_says_how_videos_are_sampled() -> None:
    ours = processor()
    batch = ours(text="<video>", videos=[pictures(9)], return_tensors="pt", videos_kwargs={"num_frames": 2})
    assert decoded(ours, batch) == "v" * 10
    assert "video_metadata" not in batch
    assert "video_times" not in batch


def test_seconds_may_be_whole_numbers() -> None:
    batch = processor()(text="<video>", videos=[video_bytes(25)], return_tensors="pt", start=1, end=2)
    assert batch["pixel_values_videos"].shape[:2] == (1, 2)


def test_timestamps_follow_the_metadata_of_given_frames() -> None:
    ours = processor(video_layout={"type": "timestamps"})
    known = {"total_num_frames": 300, "fps": 30.0, "frames_indices": [0, 90, 180, 270]}
    batch = ours(text="<video>", videos=[pictures(4)], video_metadata=[known], return_tensors="pt")
    assert decoded(ours, batch) == "".join(f"{second}.0s: vvvvv\n" for second in (0, 3, 6, 9))


def test_token_types_tell_videos_from_images() -> None:
    ours = processor()
    batch = ours(
        text="<image>a<video>",
        images=[random_image(28, 28)],
        videos=[pictures(1)],
        return_mm_token_type_ids=True,
        return_tensors="pt",
    )
    assert batch["mm_token_type_ids"].tolist() == [[1] * 5 + [0] + [2] * 5]
    assert set(batch) - {"attention_mask", "input_ids", "mm_token_type_ids"} <= set(ours.model_input_names)


def test_settings_survive(tmp_path: Path) -> None:
    rule = {"per_step": 2, "size": 2, "stride": 2, "before": 1, "after": 1}
    saved = processor(video_layout={"type": "frame_index"}, clip_tokens=rule)
    saved.save_pretrained(tmp_path)
    tiny_config().save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == saved.to_dict()
    assert loaded.video_processor.to_dict() == saved.video_processor.to_dict()
    options: dict[str, Any] = {"text": "<video>", "videos": [pictures(4)], "return_tensors": "pt"}
    assert decoded(loaded, loaded(**options)) == decoded(saved, saved(**options)) == "vv0vv1vv2"


def test_processor_without_videos_is_saved_as_before(tmp_path: Path) -> None:
    plain = processor(video_processor=None)
    assert not [name for name in plain.to_dict() if "video" in name or name == "clip_tokens"]
    assert plain.video_token is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"text": "<video><video>", "videos": [pictures(2)]}, r"hold \[2\] \(in all 2\), and 1 were passed"),
        ({"text": "a", "videos": [pictures(2)]}, r"hold \[0\] \(in all 0\), and 1 were passed"),
        ({"text": "<video>"}, r"hold \[1\] \(in all 1\), and 0 were passed"),
        (
            {"text": ["<video><video>", "b"], "videos": [[b"one"], [b"two"]]},
            r"sample 0 has 2 <video> tokens and 1 videos",
        ),
        ({"text": ["<video>", "b"], "videos": [[b"one"]]}, r"there are 1 lists of videos for 2 prompts"),
    ],
)
def test_counts_of_videos_are_checked(call: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor()(**call, return_tensors="pt")


def test_videos_are_dropped_with_their_samples() -> None:
    texts = ["<image><video>a", "b<video>", "<image>c<video><video>"]
    images = [[random_image(56, 56)], [], [random_image(28, 28)]]
    clips = [pictures(3), video_bytes(20), pictures(4), pictures(5)]
    canvas = tiny_image_processor(high_res_size=None)
    ours = processor(max_image_tokens=16, image_token_policy="drop_sample")
    plain = processor()
    ours.image_processor = plain.image_processor = canvas
    for videos in (clips, [clips[:1], clips[1:2], clips[2:]]):
        batch = ours(text=texts, images=images, videos=videos, padding=True, return_tensors="pt")
        alone = plain(text=texts[1:], images=images[1:], videos=clips[1:], padding=True, return_tensors="pt")
        assert all(batch[name].equal(value) for name, value in alone.items())
    batch = ours(text=[texts[0], "<image>"], images=[images[0], images[2]], videos=clips[:1], return_tensors="pt")
    assert "pixel_values_videos" not in batch


def test_metadata_is_dropped_with_its_videos() -> None:
    texts, images = ["<image><video>", "<video>"], [[random_image(56, 56)], []]
    settings: dict[str, Any] = {"max_image_tokens": 4, "image_token_policy": "drop_sample"}
    ours = processor(**settings, video_layout={"type": "timestamps"})
    for metadata in ([{"fps": 1}, {"fps": 2}], [[{"fps": 1}], [{"fps": 2}]]):
        batch = ours(text=texts, images=images, videos=[pictures(2)] * 2, video_metadata=metadata, return_tensors="pt")
        assert decoded(ours, batch) == "0.0s: vvvvv\n0.5s: vvvvv\n"
    with pytest.raises(ValueError, match=r"There are 1 entries of `video_metadata` for 2 videos"):
        ours(text=texts, images=images, videos=[pictures(2)] * 2, video_metadata=[{"fps": 1}], return_tensors="pt")


def test_limit_of_image_tokens_leaves_open_videos_alone(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(video_bytes(25))
    ours = processor(max_image_tokens=100)
    with open(tmp_path / "clip.mp4", "rb") as file:
        batch = ours(text="<image><video>", images=[random_image(28, 28)], videos=[file], return_tensors="pt")
    assert batch["pixel_values_videos"].shape[:2] == (1, 3)


def test_processor_without_a_video_processor_refuses_videos() -> None:
    with pytest.raises(ValueError, match=r"a processor without a video processor. Give it one: `FilaProcessor"):
        processor(video_processor=None)(text="a", videos=[pictures(2)], return_tensors="pt")


def test_tokenizer_without_the_video_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"The video token '<video>' must be an added token of the tokenizer"):
        FilaProcessor(tiny_image_processor(), tiny_tokenizer(), video_processor=FilaVideoProcessor(**FRAMES))


def test_a_server_may_ask_about_fewer_frames_than_a_connector_joins() -> None:
    """A server such as vLLM does when it starts, before it knows a video."""
    joins = {"size": 2, "stride": 2, "before": 0, "after": 0, "per_step": 3}
    ours = processor(video_processor=FilaVideoProcessor(**FRAMES), clip_tokens=joins)
    counted = [
        ours._get_num_multimodal_tokens(video_sizes=[(frames, 30, 50)]).num_video_tokens for frames in (1, 2, 4)
    ]
    assert counted == [[3], [3], [6]]


def test_a_server_counts_videos_as_they_are_written() -> None:
    video = pictures(5)
    for settings, shown in (({}, 5), ({"do_sample_frames": True}, 3)):
        ours = processor(video_processor=FilaVideoProcessor(**FRAMES, **settings))
        metadata = [{"total_num_frames": 5, "fps": 1.0}]
        batch = ours(text="<video>", videos=[video], video_metadata=metadata, return_tensors="pt")
        height, width = 30, 50
        counted = ours._get_num_multimodal_tokens(video_sizes=[(5, height, width)])
        written = int((batch["input_ids"] == VIDEO_TOKEN_ID).sum())
        assert counted.num_video_tokens == [written] == [5 * shown]
