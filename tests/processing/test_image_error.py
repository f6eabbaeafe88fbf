# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The errors of image input."""

import pickle

from fila.processing.image_error import ImageInputError, UnusableImage


def test_error_names_image_and_sample() -> None:
    assert str(ImageInputError(3, 5, "is None", "Leave it out.")) == "Image 5 of sample 3 is None. Leave it out."
    assert str(ImageInputError(None, 5, "is None", "Leave it out.")) == "Image 5 is None. Leave it out."


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ImageInputError(3, 5, "is None", "Leave it out.")))
    assert (error.sample, error.image, error.reason, error.fix) == (3, 5, "is None", "Leave it out.")


def test_unusable_image_keeps_reason_and_fix() -> None:
    error = UnusableImage("is None", "Leave it out.")
    assert (error.reason, error.fix) == ("is None", "Leave it out.")
