# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The two errors of image input: without and with the place of the image."""


def with_name(reason: str, name: str | None) -> str:
    """Return the reason together with the name of the image's file, if there is one."""
    return reason if name is None or name in reason else f"({name}) {reason}"


class UnusableImage(Exception):  # noqa: N818  (it says what the image is, and never leaves this folder)
    """An image cannot be used; raised where its place in the input is not known.

    Attributes:
        reason: What is wrong with it.
        fix: What to do about it.
    """

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason, fix)
        self.reason, self.fix = reason, fix


class ImageInputError(ValueError):
    """One image of the input cannot be used.

    Attributes:
        sample: Index of the sample, or None when images came as a flat list.
        image: Index of the image, inside its sample where there is one.
        reason: What is wrong with it.
        fix: What to do about it.
    """

    def __init__(self, sample: int | None, image: int, reason: str, fix: str) -> None:
        where = f"Image {image}" if sample is None else f"Image {image} of sample {sample}"
        super().__init__(f"{where} {reason}. {fix}")
        self.sample, self.image, self.reason, self.fix = sample, image, reason, fix

    def __reduce__(self) -> tuple[type["ImageInputError"], tuple[int | None, int, str, str]]:
        return type(self), (self.sample, self.image, self.reason, self.fix)
