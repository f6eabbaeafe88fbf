# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Runs transformers' own common tests on our classes: `make upstream`.

The tests are part of transformers' source distribution, not of its wheel, and no file of theirs is kept here: pip
fetches the distribution of the *installed* version into .cache/upstream, and a work folder is put together from it:

1. stand-ins for helper modules that the distribution imports and does not ship (`STUBS`);
2. the distribution's tests/*.py, which hold the mixins;
3. our pytest plugin (plugin.py, as the work folder's conftest) and one test class per mixin (`TEST_FILES`).

The work folder's package must be called `tests`, as upstream's is, so it runs in a process of its own. What is tested
is described by spec.py. The run fails on any failure, on fewer passes than `MIN_PASSED` and on any skip that skips.py
does not list with its reason.

    python tests/upstream/run.py [--only modeling,processing] [--default-model] [-- pytest arguments]
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from pathlib import Path

import transformers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "upstream" / transformers.__version__
MIXINS = ("modeling", "image_processing", "video_processing", "processing", "tensor_parallel")
# Fewer than any supported version gave when this line was written: tests that vanish are noticed.
MIN_PASSED = 350
MIN_PASSED_OF_DEFAULT_MODEL = 167

STUBS = {
    "tests/__init__.py": "",
    "tests/models/__init__.py": "",
    "tests/models/fila/__init__.py": "",
    "tests/exporters/__init__.py": "",
    "tests/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "tests/generation/__init__.py": "",
    "tests/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "tests/utils/__init__.py": "",
    # settings of every configuration that ConfigTester sets to unusual values and reads back
    "tests/utils/test_configuration_utils.py": """
config_common_kwargs = {"return_dict": False, "output_hidden_states": True}
""",
    "tests/utils/tiny_model_summary.json": "{}\n",
    "tests/fixtures/config.json": "{}\n",
    "utils/fetch_hub_objects_for_ci.py": """
import os

def url_to_local_path(url, return_url_if_not_found=True):
    name = url.split("/")[-1]
    return os.path.abspath(name) if os.path.exists(name) or not return_url_if_not_found else url
""",
    # Newer distributions import it; two gloo processes stand for two devices.
    "tests/distributed_testing_utils.py": """
import functools
import os
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

def _rank_process(rank, world_size, store, test, args, kwargs):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    try:
        test(rank, *args, **kwargs)
    finally:
        dist.destroy_process_group()

def run_distributed(world_size=2, **_):
    def decorate(test):
        @functools.wraps(test)
        def run(*args, **kwargs):
            with tempfile.TemporaryDirectory() as folder:
                store = os.path.join(folder, "store")
                mp.spawn(_rank_process, args=(world_size, store, test, args, kwargs), nprocs=world_size)
        return run
    return decorate
""",
}

TEST_FILES = {
    "modeling": """
from ... import test_modeling_common
from ...test_configuration_common import ConfigTester

spec.adapt(test_modeling_common)

def model_test(name, tester):
    def setUp(self):
        self.model_tester = tester(self)
        self.config_tester = ConfigTester(self, config_class=spec.CONFIG_CLASS, has_text_modality=False,
                                          common_properties=spec.CONFIG_PROPERTIES)

    return plugin.build(__name__, name, (test_modeling_common.ModelTesterMixin,), {
        "all_model_classes": spec.ALL_MODEL_CLASSES,
        "pipeline_model_mapping": {},
        "_is_composite": True,
        "setUp": setUp,
        "test_config": lambda self: self.config_tester.run_common_tests(),
    }, overrides=spec.ModelTestOverrides)

globals().update({name: model_test(name, tester) for name, tester in spec.MODEL_TESTERS.items()})
""",
    "image_processing": """
from ...test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin

Tester = type("Tester", (spec.ImageProcessingTesterMixin, ImageProcessingTester), {})

def setUp(self):
    super(ImageProcessingTest, self).setUp()
    self.image_processor_tester = Tester(self)

ImageProcessingTest = plugin.build(__name__, "ImageProcessingTest", (ImageProcessingTestMixin,), {
    "setUp": setUp,
    "image_processor_tester_class": Tester,
}, overrides=spec.ImageProcessingTestOverrides)
""",
    "video_processing": """
from ...test_video_processing_common import VideoProcessingTestMixin

def setUp(self):
    super(VideoProcessingTest, self).setUp()
    self.video_processor_tester = spec.VideoProcessingTester(self)

VideoProcessingTest = plugin.build(__name__, "VideoProcessingTest", (VideoProcessingTestMixin,), {
    "setUp": setUp,
    "fast_video_processing_class": spec.VIDEO_PROCESSOR_CLASS,
}, overrides=spec.VideoProcessingTestOverrides)
""",
    "processing": """
from ...test_processing_common import ProcessorTesterMixin

ProcessorTest = plugin.build(__name__, "ProcessorTest", (ProcessorTesterMixin,), {
    "processor_class": spec.PROCESSOR_CLASS,
}, overrides=spec.ProcessorTestOverrides)
""",
    "tensor_parallel": """
from ... import test_tensor_parallel_mixin as upstream

upstream.TP_DISTRIBUTED_TEST_MODEL_TYPES = None  # the model types that upstream's own CI picks

TensorParallelTest = plugin.build(__name__, "TensorParallelTest", (upstream.TensorParallelTesterMixin,), {
    "all_model_classes": spec.ALL_MODEL_CLASSES,
    "model_tester": property(lambda self: spec.TensorParallelTester(self)),
}, overrides=None)
""",
}


def fetch_distribution() -> Path:
    """Return the unpacked source distribution of the installed transformers, fetching it once."""
    name = f"transformers-{transformers.__version__}"
    folder = CACHE / name
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        wanted = f"transformers=={transformers.__version__}"
        subprocess.run([*pip, "--no-binary", "transformers", "-d", CACHE, wanted], check=True, env=env)
        with tarfile.open(CACHE / f"{name}.tar.gz") as archive:
            # Python 3.11.2 has no `filter="data"`: take plain files of this one folder
            inside = [member for member in archive if member.isreg() and member.name.startswith(f"{name}/")]
            archive.extractall(CACHE / "unpacking", [m for m in inside if ".." not in Path(m.name).parts])
        (CACHE / "unpacking" / name).rename(folder)
    return folder


def assemble(distribution: Path, work: Path) -> None:
    """Put the work folder together, from nothing."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(distribution / "tests", work / "tests")
    for name, text in STUBS.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, text in TEST_FILES.items():
        head = "import plugin\n\nspec = plugin.load_spec()\n"
        # The mixins infer the model type from the folder's and the file's names.
        (work / "tests" / "models" / "fila" / f"test_{name}_fila.py").write_text(head + text, encoding="utf-8")
    shutil.copyfile(HERE / "plugin.py", work / "plugin.py")
    (work / "conftest.py").write_text("from plugin import *\n", encoding="utf-8")
    # Some mixins read transformers' sources by their place in its repository.
    (work / "src").mkdir()
    (work / "src" / "transformers").symlink_to(Path(transformers.__file__).parent)
    write_pictures(work)


def write_pictures(work: Path) -> None:
    """Write stand-ins for the pictures that the mixins would download; `url_to_local_path` finds them by name."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((640, 480))
    for name in (
        "coco_sample.png",
        "australia.jpg",
        "000000039769.jpg",
        "ADE_val_00000001.jpg",
        "ADE_val_00000002.jpg",
    ):
        picture.save(work / name)


def run_tests(work: Path, only: list[str], processes: int, extra: list[str]) -> Path:
    """Run the mixins; return the junit report."""
    report = work / "junit.xml"
    env = dict(os.environ)
    env.update(
        HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", FILA_SPEC=str(HERE / "spec.py")
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={work}", "-c", os.devnull]
    command += [
        "--tb=short",
        "--disable-warnings",  # in the report alone: some tests want to see one
        "-o",
        "verbosity_subtests=0",
        "--no-header",
        "--timeout=300",
        f"--junitxml={report}",
        "-n",
        str(processes),
    ]
    command += [f"tests/models/fila/test_{name}_fila.py" for name in only]
    subprocess.run([*command, *extra], cwd=work, env=env, check=False)
    return report


def judge(report: Path, min_passed: int, skip_reasons: dict[str, str]) -> list[str]:
    """Print the report and return what is wrong with it."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    skips: defaultdict[str, list[str]] = defaultdict(list)
    problems, used = [], set()
    for case in ET.parse(report).getroot().iter("testcase"):
        mixin, name = case.get("classname", "").split(".")[-1], case.get("name", "")
        failure = next((case.find(tag) for tag in ("failure", "error") if case.find(tag) is not None), None)
        skip = case.find("skipped")
        if failure is not None:
            counts[mixin]["failed"] += 1
            problems.append(f"{mixin}::{name} failed: {(failure.get('message') or '?').splitlines()[0][:200]}")
        elif skip is not None:
            counts[mixin]["skipped"] += 1
            message = (skip.get("message") or "").replace("Skipped: ", "")
            subject = f"{mixin}::{name}: {message}"
            pattern = next((p for p in skip_reasons if re.search(p, subject)), None)
            if pattern is None:
                problems.append(f"{subject!r} is a skip that skips.py does not list")
            else:
                used.add(pattern)
                skips[pattern].append(f"{mixin}::{name}")
        else:
            counts[mixin]["passed"] += 1

    print(f"\ntransformers {transformers.__version__}, its own common tests on our classes")
    for mixin, count in sorted(counts.items()):
        print(f"{mixin:22s} {count['passed']:4d} passed {count['failed']:4d} failed {count['skipped']:4d} skipped")
    total = sum(counts.values(), Counter())
    print(f"{'all':22s} {total['passed']:4d} passed {total['failed']:4d} failed {total['skipped']:4d} skipped")
    print("\nskipped, and why it cannot apply:")
    for pattern, names in sorted(skips.items(), key=lambda item: -len(item[1])):
        print(f"{len(names):4d}  {skip_reasons[pattern]}  ({names[0]})")
    if total["passed"] < min_passed:
        problems.append(f"{total['passed']} tests passed, fewer than {min_passed}")
    return problems


def main() -> int:
    own, extra = sys.argv[1:], []
    if "--" in own:
        own, extra = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(MIXINS), help="mixins to run, separated by commas")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--default-model", action="store_true", help="leave out the models of other fusions")
    args = parser.parse_args(own)
    only = args.only.split(",")
    if unknown := set(only) - set(MIXINS):
        parser.error(f"no mixin is called {sorted(unknown)}; there are {list(MIXINS)}")

    start = time.monotonic()
    work = CACHE / "work"
    assemble(fetch_distribution(), work)
    chosen = ["-k", "not ChannelConcatModelTest and not SingleTowerModelTest"] if args.default_model else []
    report = run_tests(work, only, args.processes, [*chosen, *extra])
    sys.path.insert(0, str(HERE))
    from skips import SKIP_REASONS

    whole = only == list(MIXINS) and not extra
    min_passed = (MIN_PASSED_OF_DEFAULT_MODEL if args.default_model else MIN_PASSED) if whole else 0
    problems = judge(report, min_passed, skip_reasons=SKIP_REASONS)
    print(f"\n{time.monotonic() - start:.0f} s")
    for problem in problems:
        print(f"PROBLEM {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
