# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A clip in chunks against the whole clip, and the memory of a 10-minute video; each measured in its own process.

    python benchmarks/video.py [--frames 64, 0: no comparison] [--minutes 10]

Peak memory is the kernel's high-water mark of the process, less what it had when all was imported. A chunk is
`frames_per_chunk` frames; whole is None.
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

GRID, WIDTH, OUTPUT = (24, 24), 256, 512


def status(name: str) -> int:
    """A line of /proc/self/status in KiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise OSError(f"this system tells no {name}")


def connect(num_frames: int, chunk: int | None) -> dict[str, float]:
    """Time and memory of `stc` on features that are drawn chunk by chunk, as a tower would give them."""
    from types import SimpleNamespace

    import torch

    from fila.modeling.connector_stc import StcConnector
    from fila.modeling.video_clips import clip_tokens

    torch.manual_seed(0)
    config = SimpleNamespace(text_config=SimpleNamespace(hidden_size=OUTPUT))
    connector = StcConnector(config, input_size=WIDTH, depth=2).eval()

    def read(first: int, last: int) -> torch.Tensor:
        frames = torch.arange(first, last)[:, None, None] / num_frames
        places = torch.linspace(0, 6, GRID[0] * GRID[1])[None, :, None]
        return torch.sin(frames * 7 + places + torch.arange(WIDTH)[None, None])

    before = status("VmRSS")
    started = time.perf_counter()
    with torch.inference_mode():
        tokens = clip_tokens(connector, read, num_frames, GRID, chunk)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "MiB": (status("VmHWM") - before) / 1024, "sum": float(tokens.double().abs().sum())}


def write_video(path: str, minutes: float) -> None:
    """5 frames per second of a moving gradient, 320 x 180."""
    import av
    import numpy as np

    with av.open(path, "w", format="mp4") as output:
        stream: Any = output.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        row = np.arange(320)[None, :, None]
        for index in range(round(minutes * 300)):
            pixels = np.broadcast_to((row + index) % 256, (180, 320, 3)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 5)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def watch(path: str) -> dict[str, float]:
    """Time and memory of 32 frames of a file, from the file to pixels."""
    import av  # noqa: F401
    import torch  # noqa: F401

    from fila import FilaVideoProcessor

    processor = FilaVideoProcessor(sampling={"type": "uniform", "num_frames": 32})
    before = status("VmRSS")
    started = time.perf_counter()
    batch = processor(path, return_tensors="np", return_metadata=True)
    return {
        "seconds": time.perf_counter() - started,
        "MiB": (status("VmHWM") - before) / 1024,
        "frames": batch["video_metadata"][0].total_num_frames,
    }


def measured(*arguments: str) -> dict[str, float]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, __file__, "--child", *arguments]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    """Measure, and say what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--child", nargs="+")
    options = parser.parse_args()
    if options.child:
        what, *rest = options.child
        found = watch(rest[0]) if what == "watch" else connect(int(rest[0]), int(rest[1]) or None)
        sys.stdout.write(json.dumps(found))
        return
    say = functools.partial(print, flush=True)
    if options.frames:
        compare(options.frames, say)
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (options.minutes / 10, options.minutes):
            path = f"{folder}/{minutes}.mp4"
            write_video(path, minutes)
            seen = measured("watch", path)
            say(
                f"32 frames of a {minutes:g}-minute video ({seen['frames']:.0f} frames): {seen['seconds']:.1f} s, "
                f"{seen['MiB']:.0f} MiB"
            )


def compare(num_frames: int, say: Any) -> None:
    """A clip in chunks against the whole."""
    whole = measured("connect", str(num_frames), "0")
    say(f"stc, {num_frames} frames of {GRID[0]} x {GRID[1]} patches, {WIDTH} to {OUTPUT} channels")
    say(f"whole clip: {whole['seconds']:.2f} s, {whole['MiB']:.0f} MiB")
    for chunk in (32, 8, 2):
        part = measured("connect", str(num_frames), str(chunk))
        assert abs(part["sum"] - whole["sum"]) <= 1e-6 * whole["sum"]
        say(
            f"chunks of {chunk}: {part['seconds'] / whole['seconds']:.2f} of the time, "
            f"{part['MiB'] / whole['MiB']:.2f} of the memory ({part['MiB']:.0f} MiB)"
        )


if __name__ == "__main__":
    main()
