#!/bin/sh
# Installs lmms-eval, and this checkout, into the environment of the python given as $1.
#
# lmms-eval requires torchvision, opencv, a browser's downloader and sixty more; an evaluation of images imports none of these, so it is
# installed without its requirements, and what it does import follows by hand. torch and transformers stay those of constraints.txt.
set -eu
python=$1
pip="$python -m pip --disable-pip-version-check -qq install --no-compile"

$pip -c constraints.txt torch transformers accelerate datasets numpy pillow pyarrow
$pip --no-deps "lmms-eval==0.7.3" "evaluate>=0.4"
$pip httpx aiohttp requests jsonlines pytablewriter sacrebleu scikit-learn nltk sqlitedict tqdm-multiprocess zstandard pyyaml sympy loguru tenacity \
  python-dotenv packaging pydantic Levenshtein einops dill xxhash multiprocess openpyxl editdistance typer jinja2
$pip "filelock<4" # lmms-eval patches a module that later ones no longer have
$pip --no-deps -e .
