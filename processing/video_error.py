# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The two errors of video input: without and with the place of the video."""


class UnusableVideo(Exception):  # noqa: N818  (it says what the video is, and never leaves this folder)
    """A video cannot be used; raised where its place in the input is not known.

    Attributes:
        reason: What is wrong with it.
        fix: What to do about it.
    """

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason, fix)
        self.reason, self.fix = reason, fix


class VideoInputError(ValueError):
    """One video of the input cannot be used.

    Attributes:
        video: Index of the video in the input.
        reason: What is wrong with it.
        fix: What to do about it.
    """

    def __init__(self, video: int, reason: str, fix: str) -> None:
        super().__init__(f"Video {video} {reason}. {fix}")
        self.video, self.reason, self.fix = video, reason, fix

    def __reduce__(self) -> tuple[type["VideoInputError"], tuple[int, str, str]]:
        return type(self), (self.video, self.reason, self.fix)
