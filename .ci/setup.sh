#!/usr/bin/env bash
# Make this checkout ready: `.ci/setup.sh environment` creates .venv, `.ci/setup.sh tools` finds
# what the checks need beside Python, `.ci/setup.sh slurm` and `postgresql` what tests start on this machine.
# `make` calls them; there is no reason to call them by hand.
# What is missing is installed by apt where we are root, else named in one sentence.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

READY=.venv/.ready
PYTHONS=(python3 python3.13 python3.12 python3.11)
if [[ -n ${PYTHON:-} ]]; then PYTHONS=("$PYTHON"); fi
TOOLS=(chromium shellcheck) # commands, named like their Debian packages
SLURM=(slurmctld slurmd slurm-client)

die() {
  echo "setup: $*" >&2
  exit 1
}

# Install Debian packages, or say which ones somebody else must install.
install_packages() {
  if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
    die "please install $* (on Debian and Ubuntu: sudo apt-get install $*), then run make again"
  fi
  echo "setup: installing $* by apt"
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }; then
    die "apt could not install $*; install it by hand, then run make again"
  fi
}

# Print the first Python >= 3.11. A name on the PATH is no proof (pyenv shims), so each is started.
find_python() {
  local candidate
  for candidate in "${PYTHONS[@]}"; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return 0
    fi
  done
  return 1
}

# Debian ships Python without the parts that make a virtual environment.
make_venv() {
  local python
  if ! python=$(find_python); then
    [[ -z ${PYTHON:-} ]] || die "PYTHON=$PYTHON is not a Python 3.11 or newer"
    install_packages python3 python3-venv
    python=$(find_python) ||
      die "Python 3.11 or newer is needed and this system's python3 is older; install python3.11 and python3.11-venv"
  fi
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    install_packages "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
  fi
  rm -rf .venv
  "$python" -m venv .venv
}

environment() {
  # An environment that was moved or copied would go on running the old checkout's code.
  local made_for
  made_for=$(cat "$READY" 2>/dev/null || pwd -P)
  if [[ $made_for != "$(pwd -P)" ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    make_venv
  fi
  echo "setup: installing SkyDistill into .venv (about 7 GB the first time, mostly torch)"
  # DeepSpeed compiles nothing then: it wants no nvcc and no compiler.
  DS_BUILD_OPS=0 .venv/bin/python -m pip install --disable-pip-version-check --no-input -e '.[dev,deepspeed]' ||
    die "pip could not install SkyDistill; its last lines above say why"
  pwd -P >"$READY"
}

tools() {
  local tool missing=()
  for tool in "${TOOLS[@]}"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if [[ ${#missing[@]} -gt 0 ]]; then
    install_packages "${missing[@]}"
  fi
}

slurm() {
  local tool
  for tool in slurmctld slurmd sbatch; do
    PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || {
      install_packages "${SLURM[@]}"
      return
    }
  done
}

postgresql() {
  command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || install_packages postgresql
}

case "${1:-}" in
  environment) environment ;;
  tools) tools ;;
  slurm) slurm ;;
  postgresql) postgresql ;;
  *) die "say 'environment', 'tools', 'slurm' or 'postgresql'" ;;
esac
