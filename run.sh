#!/usr/bin/env bash
# Two commands on a fresh machine do everything:
#   bash run.sh                  set-up, then the main job on the embedded demo corpus, ending with a table of results
#   bash run.sh test             set-up, then all tests (13 minutes on two cores)
# And:
#   bash run.sh setup            the set-up alone (a virtual environment in .venv, or $VENV)
#   bash run.sh test --fast      the unit tests alone (2 minutes); further words go to pytest
#   bash run.sh check            ruff, mypy and the layers of the package
#   bash run.sh docs             the pages of docs/ as a site in site/, every link checked
#   bash run.sh faults           puts in faults on purpose, one by one, and tells which the tests catch
#   bash run.sh --corpus iemocap --root IEMOCAP_full_release --upstream hubert --out result/iemocap
#   bash run.sh --stage 5 --stop-stage 7      stages: prepare real extract pool distill train report
# Every other flag is one of `s3prl-dd run --help`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${VENV:-$here/.venv}

# torch is constrained in every call: an unpinned one may pull gigabytes
install() { "${installer[@]}" install --quiet -c "$here/requirements.txt" "$@" >> "$venv/setup.log" 2>&1; }

# install_with uv|pip: everything but moonshine, by this installer from now on; uv is fetched where it is not there
install_with() {
  installer=("$venv/bin/python" -m pip)
  if [ "$1" = uv ]; then
    command -v uv > /dev/null || install "uv<1" || return 1
    set_uv_as_pip
  fi
  install -r "$here/requirements.txt" -e "$here[check,demo,docs,test]"
}

# Of two wheels uv takes the first index's, be it one for any machine, without the library of C; pip this machine's
with_libsndfile() {
  installer=("$venv/bin/python" -m pip)
  install --force-reinstall --no-deps soundfile || true # what is missing is told by the import
}

# uv as the installer, with pip's indices, certificates and the like; what the user has set for uv wins
set_uv_as_pip() {
  local settings pair value
  settings=$("$venv/bin/python" -m pip config list 2>/dev/null) || settings=
  installer=(env "VIRTUAL_ENV=$venv" "UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match}") # of all indices, as pip
  for pair in UV_DEFAULT_INDEX=index-url UV_EXTRA_INDEX_URL=extra-index-url UV_FIND_LINKS=find-links \
              UV_NO_INDEX=no-index UV_INSECURE_HOST=trusted-host UV_HTTP_TIMEOUT=default-timeout SSL_CERT_FILE=cert; do
    value=$(sed -n "s/^[^.]*\.${pair#*=}='\(.*\)'$/\1/p" <<< "$settings" | head -n 1)
    [ -z "$value" ] || [ -n "$(printenv "${pair%%=*}")" ] || installer+=("${pair%%=*}=$value")
  done
  installer+=("$(command -v uv || echo "$venv/bin/uv")" pip)
}

setup() {
  local python=${PYTHON:-python3} stamp
  stamp=$(cat "$here/setup.py" "$here/requirements.txt" "$here/s3prl_dd/__init__.py" | sha256sum | cut -d' ' -f1)
  if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.s3prl_dd" 2>/dev/null)" = "$stamp $here" ]; then
    return
  fi
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "run.sh: Python 3.11 or newer is needed, $("$python" --version) was found. Set PYTHON=/path/to/python3.11." >&2
    exit 2
  }
  echo "[set-up] $venv (a minute the first time, some where uv cannot be had)"
  "$python" -m venv "$venv"
  : > "$venv/setup.log"
  install_with uv || install_with pip || {
    tail -n 20 "$venv/setup.log" >&2
    echo "run.sh: pip could not install the dependencies (above: the end of $venv/setup.log)." \
         "Run it again when that is mended." >&2
    exit 1
  }
  install -e "$here[moonshine]" ||
    echo "[set-up] no moonshine wheel for this machine (see $venv/setup.log): the demo will use fbank_no_cmvn"
  "$venv/bin/python" -c 'import soundfile' 2> /dev/null || with_libsndfile
  "$venv/bin/python" -c 'import s3prl_dd, torch, s3prl, safetensors, sklearn, soundfile' || {
    echo "run.sh: the set-up did not end well; see the messages above." >&2
    exit 1
  }
  echo "$stamp $here" > "$venv/.s3prl_dd"
}

tell_activate() {
  local bin=$venv/bin/activate
  echo "To use s3prl-dd in this shell: source ${bin#"$PWD"/}"
}

# pytest on the available cores, each worker with one thread
run_pytest() {
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
  "$venv/bin/python" -m pytest -q --durations=10 -n auto --maxprocesses=8 --dist=loadfile "$@"
}

has_moonshine() {
  "$venv/bin/python" -c 'import importlib.util as u, sys
sys.exit(not (u.find_spec("moonshine_voice") and u.find_spec("onnxruntime")))'
}

recipe() {
  if [ $# = 0 ] && [ ! -e result/demo/run.json ]; then
    set -- --overrides steps=500  # of the default 800: a demo is to be short
  fi
  case " $* " in
    *" --upstream "*|*" --upstream="*) ;;
    *) has_moonshine || set -- "$@" --upstream fbank_no_cmvn ;; # fbank's own normalisation leaves mean pooling nothing
  esac
  "$venv/bin/python" -m s3prl_dd.cli run "$@"
}

command=${1:-}
if [ "$command" = "-h" ] || [ "$command" = "--help" ]; then
  sed -n '2,/^set -/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 0
fi
case "$command" in
  ""|-*|setup|test|check|docs|faults) ;;
  *)
    echo "run.sh: $command: no such command. Expected setup, test, check, docs or faults, or flags of s3prl-dd run." >&2
    exit 2
    ;;
esac
setup
case "$command" in
  setup)
    tell_activate
    ;;
  test)
    shift
    cd "$here"
    if [ "${1:-}" = "--fast" ]; then
      shift
      run_pytest tests --ignore=tests/integration -m "not slow" "$@"
    else
      run_pytest tests "$@"
    fi
    ;;
  check)
    cd "$here"
    "$venv/bin/python" -m ruff check .
    "$venv/bin/python" -m mypy
    "$venv/bin/python" -m pytest -q tests/test_layers.py
    ;;
  docs)
    cd "$here"
    "$venv/bin/python" docs/build.py
    ;;
  faults)
    shift
    cd "$here"
    "$venv/bin/python" tests/faults/run.py "$@"
    ;;
  *)
    recipe "$@"
    tell_activate
    ;;
esac
