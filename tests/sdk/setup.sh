#!/usr/bin/env bash
# Makes ready what the SDK programs need, outside the source tree: node_modules, a Python environment, a compiled program.
#
# usage: tests/sdk/setup.sh [javascript|python|rust ...]      (default: all three)
#
# Everything lives in ${ETAGDB_CACHE:-$HOME/.cache/etagdb}/sdk. A part is made again only when its lock file, its tool's
# version or this script has changed, which its stamp tells. Versions come from the lock files alone. The last lines on
# standard output are NAME=PATH, one for each part: a directory with `node_modules` and a `node` to run programs with, the
# Python interpreter, the compiled program.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ETAGDB_CACHE:-$HOME/.cache/etagdb}/sdk
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(javascript python rust)

say() { echo "sdk set-up: $*" >&2; }
die() { say "$*"; exit 1; }

# Installs Debian packages where that is possible, and otherwise says which are missing.
apt_install() {
  local why=$1
  shift
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    die "$why, and this is not root on Debian; please install: $*"
  fi
  say "$why: installing $*"
  { DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" ||
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; }; } >&2 ||
    die "$why, and apt-get could not install: $*"
}

# True if the part in directory $1 was made from exactly what $2 says.
fresh() { [ -f "$1/stamp" ] && [ "$(cat "$1/stamp")" = "$2" ]; }

# The hash of the files named and of this script.
hash_of() { cat "$here/setup.sh" "$@" | sha256sum | cut -d' ' -f1; }

javascript() {
  local dir=$cache/javascript source=$here/javascript stamp
  command -v node >/dev/null || apt_install "node is missing" nodejs
  command -v npm >/dev/null || apt_install "npm is missing" npm
  # The SDK names Node 22 as the oldest supported, and runs on 20. On 18, which Debian 12 has, it misses the global
  # `crypto`, which is behind a flag there.
  local major flag=
  major=$(node -p 'process.versions.node.split(".")[0]')
  [ "$major" -ge 18 ] || die "Node 18 or newer is needed; this is $(node --version)"
  [ "$major" -ge 20 ] || flag=--experimental-global-webcrypto
  stamp="$(hash_of "$source/package.json" "$source/package-lock.json") node $(node --version)"
  if ! fresh "$dir" "$stamp"; then
    say "installing the JavaScript SDK"
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$source/package.json" "$source/package-lock.json" "$dir/"
    # The lock file names no download addresses, so npm takes the registry it is configured for, and checks the hashes.
    (cd "$dir" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error) >&2
    printf '#!/bin/sh\nexec node %s "$@"\n' "$flag" >"$dir/node"
    chmod +x "$dir/node"
    echo "$stamp" >"$dir/stamp"
  fi
  echo "javascript=$dir"
}

python() {
  local dir=$cache/python source=$here/python stamp
  command -v python3 >/dev/null || apt_install "python3 is missing" python3 python3-venv
  # Debian ships Python without the part that makes environments.
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install "Python's venv module is missing" python3-venv
  stamp="$(hash_of "$source/requirements.txt") $(python3 --version)"
  if ! fresh "$dir" "$stamp"; then
    say "installing the Python SDK"
    rm -rf "$dir"
    python3 -m venv "$dir"
    "$dir/bin/python" -m pip install -q --disable-pip-version-check --no-deps -r "$source/requirements.txt" >&2
    "$dir/bin/python" -m pip check >&2
    echo "$stamp" >"$dir/stamp"
  fi
  echo "python=$dir/bin/python"
}

rust() {
  command -v cargo >/dev/null || die "cargo is missing; please install Rust (https://www.rust-lang.org/tools/install)"
  # cargo knows by itself what is up to date. It reads its configuration from the working directory, hence the cd.
  (cd "$here/rust" && cargo build --release --locked --quiet --target-dir "$cache/rust") >&2
  echo "rust=$cache/rust/release/sdk-rust"
}

mkdir -p "$cache"
# Two runs at once would tread on each other's installations.
exec 9>"$cache/lock"
flock 9
for part in "${parts[@]}"; do
  case $part in
    javascript | python | rust) "$part" ;;
    *) die "there is no part called $part; the parts are javascript, python and rust" ;;
  esac
done
