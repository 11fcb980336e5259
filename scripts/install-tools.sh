#!/usr/bin/env bash
# Makes sure that RocksDB can be compiled: a C++ compiler, and libclang for its bindings. Installs Debian's packages
# when it may, says what is missing when it may not, and does nothing when all is there.
set -euo pipefail

missing=()
command -v cargo >/dev/null || {
  echo "cargo is missing: install Rust 1.89 or newer first (https://rustup.rs, or Debian's rustup package)" >&2
  exit 1
}
command -v c++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
# The places where bindgen looks for libclang.
has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return
  compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null && return
  compgen -G '/usr/lib/*/libclang*.so*' >/dev/null && return
  compgen -G '/usr/lib*/libclang*.so*' >/dev/null
}
has_libclang || missing+=(libclang-dev)

[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null; then
  echo "please install with your package manager: ${missing[*]} (named as Debian names them)" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "please install as root: apt-get install ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "installing ${missing[*]}" >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" ||
  { "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; }
