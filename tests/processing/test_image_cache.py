# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The cache: hits by content and settings, bounds, threads, and that nothing else changes."""

import copy
import io
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fila.processing import image_input
from fila.processing.image_cache import ImageCache
from fila.processing.image_error import ImageInputError
from tests.cases import each
from tests.helpers import random_image, tiny_image_processor, tiny_processor

WIDE, TALL = random_image(20, 70, seed=1), random_image(61, 20, seed=2)


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def assert_same(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for name, arrays in expected.items():
        for array, other in zip(found[name], arrays, strict=True):
            np.testing.assert_array_equal(array, other)


@each("kind", [None, "np", "pt"])
@each("form", ["bytes", "path", "str", "array", "tensor"])
def test_cache_gives_what_is_made_without_it(form: str, kind: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(WIDE))
    array = np.asarray(WIDE)
    source = {
        "bytes": encoded(WIDE),
        "path": path,
        "str": str(path),
        "array": array,
        "tensor": torch.tensor(array.copy()),
    }[form]
    processor = tiny_image_processor()
    expected = processor([source, TALL], return_tensors=kind)
    cache = processor.cache_images(10**7)
    for _ in range(2):
        assert_same(processor([source, TALL], return_tensors=kind), expected)
    assert cache is not None
    assert (cache.hits, cache.misses, len(cache)) == (1, 1, 1)  # the PIL image is not cached


def test_hit_reads_no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    processor, source = tiny_image_processor(), encoded(WIDE)
    processor.cache_images(10**7)
    expected = processor(source)
    monkeypatch.setattr(image_input, "decode", None)
    assert_same(processor(source), expected)


def test_prompts_use_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    processor, source = tiny_processor(), encoded(WIDE)
    expected = processor(text=["<image>a"], images=[[WIDE]], return_tensors="np")
    cache = processor.image_processor.cache_images(10**7)
    for _ in range(2):
        assert_same(processor(text=["<image>a"], images=[[source]], return_tensors="np"), expected)
    assert cache is not None
    assert (cache.hits, cache.misses) == (1, 1)


@pytest.mark.parametrize(("most", "hits"), [(48, 1), (1000, 2)])
def test_budget_sees_sizes_through_the_cache(most: int, hits: int) -> None:
    processor = tiny_processor()
    processor.max_image_tokens, processor.image_token_policy = most, "shrink_images"
    images = [[WIDE, random_image(20, 20)]]
    expected = processor(text=["<image><image>"], images=images, return_tensors="np")
    cache = processor.image_processor.cache_images(10**7)
    assert cache is not None
    for _ in range(2):
        sources = [[encoded(image) for image in own] for own in images]
        assert_same(processor(text=["<image><image>"], images=sources, return_tensors="np"), expected)
    assert (cache.hits, len(cache)) == (hits, hits)  # one that shrinks is another image each time


@pytest.mark.parametrize(
    "change",
    [{"canvas": {"type": "single"}}, {"do_normalize": False}, {"mode": "fast"}, {"return_image_sizes": True}],
    ids=str,
)
def test_other_settings_are_other_entries(change: dict[str, Any]) -> None:
    processor, source = tiny_image_processor(), encoded(WIDE)
    expected = processor(source, **change)
    cache = processor.cache_images(10**7)
    processor(source)
    assert_same(processor(source, **change), expected)
    assert cache is not None
    assert cache.hits == 0


def test_other_content_is_another_entry(tmp_path: Path) -> None:
    processor, path = tiny_image_processor(), tmp_path / "a.png"
    cache = processor.cache_images(10**7)
    assert cache is not None
    zeros = np.zeros((6, 5, 3), np.uint8)
    for source in (zeros, zeros.reshape(5, 6, 3), zeros[..., 0], zeros.astype(np.float32), encoded(WIDE)):
        processor(source)
    for image in (TALL, random_image(9, 9)):
        path.write_bytes(encoded(image))
        processor(path)
    assert (cache.hits, len(cache)) == (0, 7)


def test_results_belong_to_the_caller() -> None:
    processor, source = tiny_image_processor(), encoded(WIDE)
    processor.cache_images(10**7)
    expected = copy.deepcopy(dict(processor(source)))
    for kind in (None, "np", "pt"):
        processor(source, return_tensors=kind)["pixel_values"][0][:] = 7
    assert_same(processor(source), expected)


def test_error_names_the_image() -> None:
    processor = tiny_image_processor()
    processor.cache_images(10**7)
    for bad in (b"no image", "/no/such/file", np.full((4, 4, 3), np.nan)):
        with pytest.raises(ImageInputError, match="Image 1 of sample 1") as caught:
            processor([[WIDE], [encoded(TALL), bad]])
        assert (caught.value.sample, caught.value.image) == (1, 1)


def test_error_names_the_file(tmp_path: Path) -> None:
    processor, path = tiny_image_processor(), tmp_path / "broken.png"
    path.write_bytes(b"no image")
    messages = []
    for size in (None, 10**7):
        processor.cache_images(size)
        with pytest.raises(ImageInputError, match=r"Image 0 \(.*broken.png\) is no image") as caught:
            processor(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_no_image_gives_no_tensor() -> None:
    processor = tiny_image_processor()
    processor.cache_images(10**7)
    assert dict(processor([], return_tensors="pt")) == {}


def test_oldest_entry_is_dropped_first() -> None:
    cache = ImageCache(100)
    arrays = {"a": np.zeros(40, np.uint8)}
    for key in (b"1", b"2"):
        cache.put(key, arrays)
    assert cache.get(b"1") is not None
    cache.put(b"3", arrays)
    assert [cache.get(key) is not None for key in (b"1", b"2", b"3")] == [True, False, True]
    cache.put(b"3", {"a": np.zeros(50, np.uint8)})
    assert (cache.bytes, len(cache)) == (90, 2)


def test_entry_that_is_too_large_is_not_kept() -> None:
    cache = ImageCache(100)
    cache.put(b"1", {"a": np.zeros(101, np.uint8)})
    assert (cache.bytes, len(cache)) == (0, 0)


def test_threads_share_the_cache() -> None:
    cache = ImageCache(1000)
    made = [{"a": np.full(90, key, np.uint8)} for key in range(30)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        for key in np.random.default_rng(seed).integers(0, 30, 300):
            kept = cache.get(bytes([key]))
            if kept is None:
                cache.put(bytes([key]), made[key])
            elif kept["a"][0] != key:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.bytes == 90 * len(cache) <= 1000
    assert cache.hits + cache.misses == 1200


def test_copies_begin_empty_and_nothing_is_saved(tmp_path: Path) -> None:
    processor = tiny_image_processor()
    before = processor.to_dict()
    processor.cache_images(10**7)
    processor(encoded(WIDE))
    for other in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):
        assert (other._cache.max_bytes, len(other._cache)) == (10**7, 0)
    assert processor.to_dict() == before
    processor.save_pretrained(tmp_path)
    assert type(processor).from_pretrained(tmp_path)._cache is None


def test_cache_is_off_until_asked_for_and_can_be_turned_off() -> None:
    processor = tiny_image_processor()
    assert processor._cache is None
    processor.cache_images(10)
    assert processor.cache_images(None) is None
    assert processor._cache is None


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "1"])
def test_cache_rejects_a_size_that_is_none(size: Any) -> None:
    with pytest.raises(ValueError, match=r"`max_bytes` must be a positive integer; got"):
        tiny_image_processor().cache_images(size)
