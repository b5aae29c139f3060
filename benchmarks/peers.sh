#!/usr/bin/env bash
# Usage: benchmarks/peers.sh [FOLDER]
# The environments of the peers that the benchmarks run beside this project, each apart: FOLDER/onmt and
# FOLDER/ctranslate2 (about 2 GB; FOLDER is .peers unless named). What is there already stays as it is.
# PYTHON: the project's interpreter, whose version of torch OpenNMT-py gets too, so that the library is the same.
# OpenNMT-py asks for torch below 2.3 but runs with the newer one, hence --no-deps.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.peers}
python=${PYTHON:-.venv/bin/python}
version() { "$python" -c "from importlib.metadata import version; print(version('$1').split('+')[0])"; }
install() { "$folder/$1/bin/python" -m pip install --quiet --disable-pip-version-check ${PIP_ARGS:-} "${@:2}"; }

if [ ! -e "$folder/onmt/installed" ]; then
  echo "Installing OpenNMT-py into $folder/onmt"
  "$python" -m venv "$folder/onmt"
  install onmt "torch==$(version torch)" numpy
  install onmt --no-deps OpenNMT-py==3.5.1
  install onmt configargparse ctranslate2 fasttext-wheel flask pyahocorasick pyonmttok pyyaml rapidfuzz sacrebleu \
    sentencepiece six spacy tensorboard waitress 2> >(grep -v "torch<2.3\|dependency resolver" >&2 || true)
  touch "$folder/onmt/installed"
fi
if [ ! -e "$folder/ctranslate2/installed" ]; then
  echo "Installing CTranslate2 into $folder/ctranslate2"
  "$python" -m venv "$folder/ctranslate2"
  install ctranslate2 ctranslate2 numpy
  touch "$folder/ctranslate2/installed"
fi
