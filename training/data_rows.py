# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Turn a row of another tool's data into a sample: images, and messages with a part for each of them.

`normalise` is pure, so it also works in `dataset.map`. It reads rows of LLaVA, InternVL, ms-swift, the_cauldron and
FineVision, VQA sets, TRL, preferences and captions, and says by name what it cannot use.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from fila.processing.image_input import load_images
from fila.processing.image_size import read_size
from fila.processing.image_source import is_address, split_frame

from .collator import count_parts, message_text, open_image_size, read_sample, readable_source

Turn = tuple[str, Any]  # role; text, or a list of parts

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_IDS = ("id", "questionId", "question_id", "__key__")
_ANSWERS = ("answers", "answer", "label")
_CAPTIONS = ("caption", "text", "txt")
_MEDIA = ("image", "images", "video", "videos")
_TAG = re.compile(r"<(image|video|audio)>")
_BOX_TAG = re.compile(r"<(ref-object|bbox)>")
_ANNOTATORS = 10  # TextVQA and VQAv2 have the answers of ten people; elsewhere the first answer is the canonical one
_LONGEST_PATH = 4096
BOXES = ("norm1000", "norm1", "pixels")


class RowError(ValueError):
    """A row cannot be used as a sample.

    Attributes:
        kind: What is wrong, in a few words, for counting.
        reason: What is wrong with this row.
        identity: The row's id, or None.
    """

    def __init__(self, kind: str, reason: str, identity: object = None) -> None:
        super().__init__(f"A row{named(identity)}: {reason}")
        self.kind, self.reason, self.identity = kind, reason, identity

    def __reduce__(self) -> tuple[type["RowError"], tuple[str, str, object]]:
        return type(self), (self.kind, self.reason, self.identity)


def named(identity: object) -> str:
    """Return the id of a row, as errors show it."""
    return "" if identity is None else f" (id {str(identity)[:80]})"


def row_id(row: object) -> Any:
    """Return the id of a row under any of its names, or None."""
    if not isinstance(row, Mapping):
        return None
    return next((row[name] for name in _IDS if row.get(name) is not None), None)


def normalise(
    row: Mapping[str, Any],
    *,
    root: str | os.PathLike[str] = "",
    columns: Mapping[str, str] | None = None,
    image_position: str = "as_written",
    missing_image: str = "error",
    leading_answer: str = "error",
    boxes: str | None = None,
    drop_instruction: bool = False,
    needs_answer: bool = False,
    newlines: tuple[bool, bool] = (False, False),
) -> dict[str, Any]:
    """Return a row as a sample.

    No file is opened, but for the size of an image whose boxes are in pixels.

    Args:
        row: Row of a data set; a column that is None counts as absent.
        root: Folder that paths of images and videos are relative to.
        columns: Column that each known name is read from, such as `{"question": "q"}`; an empty one hides the name.
        image_position: "as_written", or "first": images before the text of their turn, as LLaVA's own training has
            them.
        missing_image: For conversations with images and no `<image>`: "error", or "first", as InternVL does it.
        leading_answer: For conversations that start with the assistant: "error", or "skip", as LLaVA does it.
        boxes: Notation into which `objects` of ms-swift are written: "norm1000", "norm1" or "pixels".
        drop_instruction: Leave the user's text out of rows of one question with images.
        needs_answer: Reject rows without an answer.
        newlines: Whether the chat template writes a newline before and after an image; one that the text has there is
            left out then.

    Returns:
        `messages`, whose contents are lists of parts; `images` and `videos`, one per part; and where the row has them
        `id`, `answers` (all right answers, as text), `rejected` (messages of the answer that is not wanted), `fields`
        and `tools`. What is not understood is in `extra`.

    Raises:
        RowError: If the row cannot be used.
    """
    if not isinstance(row, Mapping):
        raise RowError("not a sample", f"must be an object; got {row!r:.60}")
    identity = row_id(row)
    rules = _Rules(
        os.fspath(root), image_position, missing_image, leading_answer, boxes, drop_instruction, needs_answer, newlines
    )
    try:
        return _Reader(row, columns or {}, rules).sample()
    except RowError as error:
        raise RowError(error.kind, error.reason, identity) from None


def check_options(*, columns: Mapping[str, str] | None = None, **chosen: Any) -> None:
    """Reject an unknown value of an option of `normalise`.

    Raises:
        ValueError: Names the option and its values.
    """
    values = {
        "image_position": ("as_written", "first"),
        "missing_image": ("error", "first"),
        "leading_answer": ("error", "skip"),
        "boxes": (None, *BOXES),
    }
    for name, known in values.items():
        if name in chosen and chosen[name] not in known:
            raise ValueError(f"`{name}` must be one of {list(known)}; got {chosen[name]!r}.")
    known_columns = sorted({name for names, _ in KINDS.values() for name in re.findall(r"\w+", names)} | set(_MEDIA))
    if unknown := sorted(set(columns or {}) - {*known_columns, *_IDS, "system", "history", "input", "objects"}):
        raise ValueError(f"`columns` must name columns among {known_columns}, then `=` and yours; got {unknown}.")


@dataclass(frozen=True)
class _Rules:
    """The options of `normalise`."""

    root: str
    image_position: str
    missing_image: str
    leading_answer: str
    boxes: str | None
    drop_instruction: bool
    needs_answer: bool
    newlines: tuple[bool, bool]


class _Reader:
    """What is known of one row while it is read."""

    def __init__(self, row: Mapping[str, Any], columns: Mapping[str, str], rules: _Rules) -> None:
        self.row = {name: value for name, value in row.items() if value is not None}
        self.given = list(self.row)
        for name, column in columns.items():
            value = row.get(column) if column else None
            self.row.pop(name, None)
            self.row |= {} if value is None else {name: value}
        for column in columns.values():
            if column and column not in columns:
                self.row.pop(column, None)
        self.rules = rules
        self.used: set[str] = set(_MEDIA)
        self.images, self.videos = self._media("image"), self._media("video")
        self.answers: list[str] = []
        self.rejected: list[Turn] = []

    def has(self, *names: str) -> bool:
        return all(name in self.row for name in names)

    def take(self, *names: str) -> Any:
        """Return the first column that the row has, or None."""
        name = next((name for name in names if name in self.row), None)
        self.used |= set(names)
        return None if name is None else self.row[name]

    def _media(self, kind: str) -> list[Any]:
        one, several = (self.row.get(name) for name in (kind, f"{kind}s"))
        one = [] if isinstance(one, str) and not one else one
        found = [
            list(value) if isinstance(value, list | tuple) else [value]
            for value in (one, several)
            if value is not None
        ]
        if all(found) and len(found) == 2:
            raise RowError("two kinds", f"has both `{kind}` and `{kind}s`; --columns {kind}= leaves one out")
        listed = next(filter(None, found), [])
        for number, source in enumerate(listed):
            self._check_source(source, f"{kind} {number}")
        return listed

    def _check_source(self, source: object, name: str) -> None:
        empty = source is None or source == "" or (isinstance(source, Mapping) and not any(source.values()))
        if empty or isinstance(source, int | float | bool):
            raise RowError("no file named", f"must have a path, bytes or a picture as {name}; got {source!r:.60}")

    def sample(self) -> dict[str, Any]:
        if self.row.get("audio") or self.row.get("audios"):
            raise RowError("audio", "has audio, which the model does not hear")
        kind = self._kind()
        sample: dict[str, Any] = {}
        if (identity := row_id(self.row)) is not None:
            sample["id"] = identity
            self.used |= {name for name in _IDS if self.row.get(name) is identity}
        has_parts = kind == "fields"
        if kind == "fields":
            self.used.add("messages")
            sample |= {"messages": [], "images": self._files(self.images), "videos": self._files(self.videos)}
        else:
            turns = self._with_system(KINDS[kind][1](self))
            has_parts = any(isinstance(content, list | tuple) for _, content, *_ in turns)
            sample |= self._conversation(kind, turns, has_parts)
        for name in ("fields", "tools"):
            if self.row.get(name):
                sample[name] = self.take(name)
        if self.answers:
            sample["answers"] = self.answers
        if self.rejected:
            # the images of the prompt are not those of the answer, so its text has no tag
            sample["rejected"] = [self._message(role, content, False) for role, content in self.rejected]
        extra = {name: value for name, value in self.row.items() if name not in self.used}
        if has_parts and kind in (
            "messages",
            "fields",
        ):  # a row that has the form of a sample already keeps its columns where they are
            return {**extra, **sample}
        return sample | ({"extra": extra} if extra else {})

    def _kind(self) -> str:
        """Return the kind of a row, by its columns."""
        if self.row.get("fields") and not self.row.get("messages"):
            return "fields"
        matching = [kind for kind, choices in _COLUMNS.items() if self._matches(choices)]
        found = [kind for kind in matching if kind not in _ALONE]
        if len(found) > 1:
            told = " and ".join(f"{kind} ({', '.join(self._present(KINDS[kind][0]))})" for kind in found)
            hidden = self._present(KINDS[found[1]][0])[-1]
            raise RowError("two kinds", f"is of two kinds: {told}; --columns {hidden}= leaves a column out")
        found = found or matching
        if not found:
            raise RowError(
                "unknown columns",
                f"has unknown columns {self.given}; --columns question=NAME,answer=NAME says which they are",
            )
        return found[0]

    def _matches(self, choices: Sequence[frozenset[str]]) -> bool:
        return all(not choice.isdisjoint(self.row) for choice in choices)

    def _present(self, names: str) -> list[str]:
        return [name for name in re.findall(r"\w+", names) if self.has(name)]

    def _with_system(self, turns: list[Turn]) -> list[Turn]:
        system = self.row.get("system")
        if isinstance(system, str):
            self.used.add("system")
            if system and not (turns and turns[0][0] == "system"):
                return [("system", system), *turns]
        return turns

    def _conversation(self, kind: str, turns: list[Any], has_parts: bool) -> dict[str, Any]:
        """Return `messages`, `images` and `videos` of checked turns."""
        if not has_parts:
            turns = _checked_turns(turns, self.rules.leading_answer)
        if self.rules.needs_answer and not any(role == "assistant" for role, *_ in turns):
            raise RowError("no answer", "has no answer to learn")
        if self.rules.needs_answer and any(own.get("loss") not in (None, 1) for _, _, *more in turns for own in more):
            raise RowError("loss", "has a message whose `loss` is not true, which would be learnt like the others")
        turns = self._with_boxes(turns)
        if not has_parts:
            self._check_tags(turns)
            no_tags = not any(_TAG.search(content) for _, content, *_ in turns)
            if no_tags and (self.images or self.videos):
                # the trainers that read conversations of text want tags; pictures in the row itself are of `datasets`
                named_only = all(isinstance(source, str) for source in self.images + self.videos)
                if kind in _TAGGED and named_only and self.rules.missing_image == "error":
                    found = _counted(self.images, "image") if self.images else _counted(self.videos, "video")
                    tag = "image" if self.images else "video"
                    raise RowError(
                        f"surplus {tag}", f"has 0 <{tag}> and {found}; --missing-image first puts it before the text"
                    )
                turns = self._with_images_first(turns, "\n" if kind in _TAGGED and named_only else "")
            elif self.rules.image_position == "first":
                turns = [_tags_first(turn) for turn in turns]
        messages = [self._message(role, content, not has_parts, *more) for role, content, *more in turns]
        sample: dict[str, Any] = {"messages": messages, "images": self.images, "videos": self.videos}
        if has_parts:  # in texts the tags have been counted
            try:
                sample = read_sample(sample, "it")
            except ValueError as error:
                raise RowError("messages", str(error).rstrip(".")) from None
        if self.rules.drop_instruction and sample["images"]:
            _drop_instruction(sample["messages"])
        return {
            "messages": sample["messages"],
            "images": self._files(sample["images"]),
            "videos": self._files(sample["videos"]),
        }

    def _check_tags(self, turns: Sequence[Any]) -> None:
        found = Counter(tag for _, content, *_ in turns for tag in _TAG.findall(content))
        if found["audio"]:
            raise RowError("audio", f"has {found['audio']} <audio>, which the model does not hear")
        for role, content, *_ in turns:
            if role == "assistant" and (tag := _TAG.search(content)):
                raise RowError(f"{tag[1]} in an answer", f"has {tag[0]} in an answer, which would be learnt")
        for kind, given in (("image", self.images), ("video", self.videos)):
            told = f"has {found[kind]} <{kind}> and {_counted(given, kind)}"
            if found[kind] and not given:
                raise RowError(f"tag without {kind}", told)
            if found[kind] > len(given):
                raise RowError("surplus tag", told)
            if found and found[kind] < len(given):  # without any tag the images may precede the text
                raise RowError(f"surplus {kind}", told)

    def _with_images_first(self, turns: list[Any], joint: str) -> list[Any]:
        """Put a tag for each image and video before the first text of the user."""
        tags = "<image>" * len(self.images) + "<video>" * len(self.videos) + joint
        first = next((number for number, turn in enumerate(turns) if turn[0] == "user"), None)
        if first is None:
            raise RowError("no question", "has images and no message of the user")
        role, content, *more = turns[first]
        return [*turns[:first], (role, tags + content, *more), *turns[first + 1 :]]

    def _message(self, role: str, content: Any, has_tags: bool, *more: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(content, str):
            parts = _parts(content, self.rules.newlines) if has_tags else [{"type": "text", "text": content}]
            # a message without any part would lose its role to some templates
            content = parts or [{"type": "text", "text": ""}]
        return {"role": role, **({} if content is None else {"content": content}), **(more[0] if more else {})}

    def _files(self, sources: Sequence[Any]) -> list[Any]:
        """Return sources with paths below the root, if the files exist."""
        return [self._file(source) for source in sources]

    def _file(self, source: Any) -> Any:
        if isinstance(source, Mapping):
            if source.get("bytes"):  # the path beside bytes may be that of another machine
                return source
            source = source.get("path")
        if isinstance(source, os.PathLike):
            source = os.fspath(source)
        if not isinstance(source, str) or is_address(source) or source[:5].lower() == "data:":
            return source
        if len(source) > _LONGEST_PATH:
            raise RowError(
                "file missing",
                f"has {len(source)} characters as the path of an image, {source[:20]!r}...; base64 must begin with "
                "data:image/jpeg;base64, or what it is",
            )
        path = os.path.join(self.rules.root, source)
        if not os.path.exists(split_frame(path)[0]):
            raise RowError(
                "file missing",
                f"names {path}, which is no file; its path is relative to the image folder, or else to the file of "
                "the rows (--image-folder)",
            )
        return path

    def _with_boxes(self, turns: list[Any]) -> list[Any]:
        """Write the boxes of `objects` into the texts; reject placeholders that nothing fills."""
        objects = self.take("objects") or {}
        found = Counter(tag for _, content, *_ in turns for tag in _BOX_TAG.findall(_text(content)))
        if not isinstance(objects, Mapping):
            raise RowError("boxes", f"must have an object as `objects`; got {objects!r:.60}")
        refs, boxes = (list(objects.get(name) or []) for name in ("ref", "bbox"))
        if not (found or refs or boxes):
            return turns
        told = (
            f"has {found['bbox']} <bbox> and {found['ref-object']} <ref-object> for {len(boxes)} boxes and "
            f"{len(refs)} names"
        )
        if found["bbox"] != len(boxes) or found["ref-object"] != len(refs):
            raise RowError("boxes", told)
        if boxes and self.rules.boxes is None:
            raise RowError("boxes", f"{told}; --boxes {'|'.join(BOXES)} says how to write them")
        owners = objects.get("image_id") or [0] * len(boxes)
        if len(owners) != len(boxes):
            raise RowError("boxes", f"{told}, and {len(owners)} `image_id`")
        unit = objects.get("bbox_type") or "real"
        written = iter([self._box(box, owner, unit) for box, owner in zip(boxes, owners, strict=True)])
        names = iter([str(ref) for ref in refs])

        def fill(match: re.Match[str]) -> str:
            return next(written if match[1] == "bbox" else names)

        return [(role, _rewritten(content, fill), *more) for role, content, *more in turns]

    def _box(self, box: Any, owner: Any, unit: str) -> str:
        """Return a box `[x1, y1, x2, y2]` or a point `[x, y]` in the notation that was asked for."""
        if (
            unit not in ("real", "norm1")
            or not isinstance(box, list | tuple)
            or len(box) not in (2, 4)
            or not all(isinstance(number, int | float) and not isinstance(number, bool) for number in box)
        ):
            raise RowError("boxes", f"must have boxes of 2 or 4 numbers, `real` or `norm1`; got {box!r:.60} ({unit})")
        if (unit == "norm1") == (self.rules.boxes != "pixels"):
            sides = (1.0, 1.0)
        else:
            if not isinstance(owner, int) or not 0 <= owner < len(self.images):
                raise RowError("boxes", f"has a box in image {owner!r} and {_counted(self.images, 'image')}")
            height, width = image_size(self._file(self.images[owner]))
            sides = (width, height) if unit == "norm1" else (1 / width, 1 / height)
        scaled = [number * sides[axis % 2] for axis, number in enumerate(box)]
        if self.rules.boxes != "pixels" and not all(0 <= number <= 1 for number in scaled):
            raise RowError("boxes", f"has a box outside of its image: {list(box)}")
        if self.rules.boxes == "norm1":
            return f"[{', '.join(f'{number:.3f}' for number in scaled)}]"
        return (
            f"[{', '.join(str(round(number * (1000 if self.rules.boxes == 'norm1000' else 1))) for number in scaled)}]"
        )

    # One method per kind of row: returns its turns.

    def messages(self) -> list[Any]:
        turns = _role_turns(self.take("messages"), "messages")
        rejected = self.take("rejected_messages", "rejected_response")
        if "rejected_images" in self.row:
            raise RowError("two kinds", "has `rejected_images`, for which there is no place")
        if rejected is not None:
            self.rejected = _answer_turns(rejected, "rejected_messages", turns)
        return turns

    def conversations(self) -> list[Turn]:
        turns = self.take("conversations")
        if rejected := self.take("rejected_response"):
            self.rejected = [("assistant", _as_text(rejected, "rejected_response"))]
        if not isinstance(turns, list | tuple) or not all(isinstance(turn, Mapping) for turn in turns):
            raise RowError("not a sample", f"must have a list of turns as `conversations`; got {turns!r:.60}")
        if turns and "from" not in turns[0]:
            return _role_turns(turns, "conversations")
        return [(str(turn.get("from")), _as_text(turn.get("value"), "value")) for turn in turns]

    def pairs(self) -> list[Turn]:
        return list(_pairs(self.take("conversation"), "conversation", "human", "assistant"))

    def texts(self) -> list[Turn]:
        return list(_pairs(self.take("texts"), "texts", "user", "assistant"))

    def query(self) -> list[Turn]:
        turns: list[Turn] = []
        for pair in self.take("history") or []:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise RowError("not a sample", f"must have pairs as `history`; got {pair!r:.60}")
            turns += [("user", _as_text(pair[0], "history")), ("assistant", _as_text(pair[1], "history"))]
        if rejected := self.take("rejected_response"):
            self.rejected = [("assistant", _as_text(rejected, "rejected_response"))]
        turns.append(("user", _as_text(self.take("query"), "query")))
        return [*turns, ("assistant", _as_text(self.take("response"), "response"))]

    def instruction(self) -> list[Turn]:
        asked = [_as_text(self.take(name) or "", name) for name in ("instruction", "input")]
        return [("user", "\n".join(filter(None, asked))), ("assistant", _as_text(self.take("output"), "output"))]

    def completion(self) -> list[Any]:
        return _continued(self.prompt(), self.take("completion"), "completion")

    def chosen(self) -> list[Any]:
        return self._wanted(self.prompt())

    def _wanted(self, prompt: list[Any]) -> list[Any]:
        """Return the turns with the answer that is wanted, and keep the other."""
        turns = _continued(prompt, self.take("chosen"), "chosen")
        if (rejected := self.take("rejected")) is not None:
            self.rejected = _answer_turns(rejected, "rejected", turns)
        return turns

    def whole(self) -> list[Any]:
        """Return the turns of a preference between two whole conversations, which begin with the prompt."""
        turns = _role_turns(self.take("chosen"), "chosen")
        self.rejected = _answer_turns(self.take("rejected"), "rejected", turns)
        return turns

    def prompt(self) -> list[Any]:
        prompt = self.take("prompt")
        return [("user", prompt)] if isinstance(prompt, str) else _role_turns(prompt, "prompt")

    def preference(self) -> list[Any]:
        return self._wanted(self.question())

    def answer(self) -> list[Turn]:
        self.answers = [*_references(self.take(*_ANSWERS))]
        return [*self.question(), *self._learnt()]

    def caption(self) -> list[Turn]:
        self.answers = [*_references(self.take(*_CAPTIONS))]
        return [("user", ""), *self._learnt()]

    def question(self) -> list[Turn]:
        return [("user", _as_text(self.take("question", "query"), "question"))]

    def _learnt(self) -> list[Turn]:
        """Return the answer that training learns: the first, or of ten people the one that most of them gave."""
        if not self.answers:
            return []
        learnt = self.answers[0]
        if len(self.answers) == _ANNOTATORS:
            learnt = Counter(self.answers).most_common(1)[0][0]
        return [("assistant", learnt)]


# Kinds of rows: columns that must not be None (`a|b`: one of them), and what reads them.
KINDS: dict[str, tuple[str, Callable[[_Reader], list[Any]]]] = {
    "messages": ("messages", _Reader.messages),
    "conversations": ("conversations", _Reader.conversations),
    "conversation pairs": ("conversation", _Reader.pairs),
    "texts": ("texts", _Reader.texts),
    "query/response": ("query response", _Reader.query),
    "instruction/output": ("instruction output", _Reader.instruction),
    "prompt/completion": ("prompt completion", _Reader.completion),
    "prompt/chosen": ("prompt chosen", _Reader.chosen),
    "question/chosen": ("question|query chosen", _Reader.preference),
    "question/answer": ("question|query answers|answer|label", _Reader.answer),
    "image/caption": ("image|images caption|text|txt", _Reader.caption),
    "chosen/rejected": ("chosen rejected", _Reader.whole),
    "prompt": ("prompt", _Reader.prompt),
    "question": ("question|query", _Reader.question),
}
_COLUMNS = {kind: [frozenset(choice.split("|")) for choice in names.split()] for kind, (names, _) in KINDS.items()}
_ALONE = ("chosen/rejected", "prompt", "question")  # what a row is if it is nothing else
# Kinds whose own trainers demand a tag for each image; in the others images precede the first text.
_TAGGED = ("messages", "conversations", "conversation pairs", "query/response", "instruction/output")


def _role_turns(turns: Any, name: str) -> list[Any]:
    """Return turns of `role` and `content`; further keys, such as `tool_calls`, are kept."""
    if not isinstance(turns, list | tuple) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise RowError(
            "not a sample",
            f"must have a list of messages as `{name}`, each with `role` and `content`; got {turns!r:.60}",
        )
    kept = [{key: value for key, value in turn.items() if value is not None} for turn in turns]
    more = [{key: turn[key] for key in turn if key not in ("role", "content")} for turn in kept]
    contents = [_joined(turn.get("content")) for turn in kept]
    return [
        (turn.get("role"), content, *([own] if own else []))
        for turn, content, own in zip(kept, contents, more, strict=True)
    ]


def _joined(content: Any) -> Any:
    """Return parts as they are, without their keys that are None."""
    if not isinstance(content, list | tuple):
        return content
    return [
        {key: value for key, value in part.items() if value is not None} if isinstance(part, Mapping) else part
        for part in content
    ]


def _answer_turns(answer: Any, name: str, wanted: Sequence[Any]) -> list[Any]:
    """Return the turns of an answer that is text or messages, without those with which `wanted` begins too.

    The last turn is always one of the answer.
    """
    turns = _text_or_turns(answer, name)
    pairs = enumerate(zip(turns, wanted, strict=False))
    return turns[next((number for number, (own, other) in pairs if own != other), len(turns) - 1) :]


def _text_or_turns(answer: Any, name: str) -> list[Any]:
    if isinstance(answer, list | tuple):
        return _role_turns(answer, name)
    return [("assistant", _as_text(answer, name))]


def _continued(prompt: list[Any], answer: Any, name: str) -> list[Any]:
    """Return a prompt and its answer, which is text, messages, or the whole conversation once more."""
    turns = _text_or_turns(answer, name)
    if turns[0][0] in ("assistant", "tool"):
        return [*prompt, *turns]
    start = next((number for number, turn in enumerate(turns) if turn[0] != "system"), 0)
    if any(turns[first : first + len(prompt)] == prompt for first in (0, start)):
        return turns
    raise RowError(
        "not a sample", f"must have `{name}` that begins with the assistant or with the prompt; got {answer!r:.60}"
    )


def _pairs(entries: Any, name: str, user: str, assistant: str) -> Iterator[Turn]:
    for entry in entries if isinstance(entries, list | tuple) else [None]:
        if not isinstance(entry, Mapping):
            raise RowError("not a sample", f"must have a list of pairs as `{name}`; got {entries!r:.60}")
        yield "user", _as_text(entry.get(user) or "", user)
        yield "assistant", _as_text(entry.get(assistant), assistant)


def _as_text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    if value is None and name in ("value", "assistant", "response"):
        return ""  # an empty answer, which is refused by that name
    raise RowError("not a sample", f"must have text as `{name}`; got {value!r:.60}")


def _references(answers: Any) -> Iterator[str]:
    """Yield right answers as text; VQAv2 has objects with `answer`, SQuAD one with a list `text`."""
    if isinstance(answers, Mapping) and isinstance(answers.get("text"), list | tuple):
        answers = answers["text"]
    for answer in answers if isinstance(answers, list | tuple) else [answers]:
        text = _as_text(answer.get("answer") if isinstance(answer, Mapping) else answer, "answer")
        if text.strip():
            yield text


def _checked_turns(turns: list[Any], leading_answer: str) -> list[Any]:
    """Return turns with our names of roles, in an order that can be learnt."""
    for role, *_ in turns:
        if role not in ROLES and role != "tool":
            known = sorted({*ROLES, "tool"})
            raise RowError("unknown role", f"has the unknown role {role!r}; roles are {known}")
    turns = [(ROLES.get(role, role), content, *more) for role, content, *more in turns]
    for role, content, *_ in turns:
        if not isinstance(content, str) and not (content is None and role == "assistant"):
            raise RowError("not a sample", f"must have text as content of each message; got {content!r:.60}")
    speaking = [role for role, *_ in turns if role != "system"]
    if not speaking:
        raise RowError("no question", "has no message of the user")
    if speaking[0] == "assistant":
        if leading_answer == "error":
            raise RowError("starts with the assistant", "starts with the assistant")
        first = next((number for number, (role, *_) in enumerate(turns) if role == "user"), len(turns))
        turns = [turn for number, turn in enumerate(turns) if number >= first or turn[0] == "system"]
        speaking = [role for role, *_ in turns if role != "system"]
    for before, after in pairwise(speaking):
        if before == after and after != "tool":
            raise RowError("roles do not alternate", f"has roles that do not alternate: {before} after {after}")
    for role, content, *more in turns:
        if role == "assistant" and not (content or "").strip() and not more:
            raise RowError("empty answer", "has an empty answer")
    return [(role, content or "", *more) for role, content, *more in turns]


def _tags_first(turn: Any) -> Any:
    role, content, *more = turn
    tags = "".join(f"<{tag}>" for tag in _TAG.findall(content))
    return (role, f"{tags}\n{_TAG.sub('', content).strip()}" if tags else content, *more)


def _parts(text: str, newlines: tuple[bool, bool]) -> list[dict[str, Any]]:
    """Split a text at its tags; drop one newline beside a tag where the template writes its own."""
    parts: list[dict[str, Any]] = []
    pieces = _TAG.split(text)  # text, kind, text, kind, ..., text
    for number, piece in enumerate(pieces):
        if number % 2:
            parts.append({"type": piece})
            continue
        if newlines[1] and number:
            piece = piece.removeprefix("\n")
        if newlines[0] and number < len(pieces) - 1:
            piece = piece.removesuffix("\n")
        parts += [{"type": "text", "text": piece}] if piece else []
    return parts


def _drop_instruction(messages: list[dict[str, Any]]) -> None:
    """Leave the images alone in the only question of a sample."""
    asked = [message for message in messages if message["role"] == "user"]
    if len(asked) == 1 and count_parts(asked, "image"):
        asked[0]["content"] = [part for part in asked[0]["content"] if part["type"] != "text"]


def _text(content: Any) -> str:
    return message_text({"content": content})


def _rewritten(content: Any, fill: Callable[[re.Match[str]], str]) -> Any:
    if isinstance(content, list | tuple):
        return [
            {**part, "text": _BOX_TAG.sub(fill, part["text"])} if isinstance(part.get("text"), str) else part
            for part in content
        ]
    return _BOX_TAG.sub(fill, content)


def _counted(given: Sequence[Any], kind: str) -> str:
    return f"{len(given)} {kind}{'' if len(given) == 1 else 's'}" if given else f"no {kind}"


def image_size(image: object, page_size: Callable[[float, float], Any] | None = None) -> tuple[int, int]:
    """Return height and width of an image in a sample; `page_size` as in `load_images`."""
    source = readable_source(image)
    if isinstance(source, str | Path) and Path(split_frame(source)[0]).is_file():
        return tuple(read_size(str(source), page_size=page_size))  # type: ignore[return-value]
    return open_image_size(load_images(source, page_size=page_size))
