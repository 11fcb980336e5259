#!/usr/bin/env bash
# Makes ready what the SDK programs need, outside the source tree: node_modules, a Python environment, a compiled program.
#
# usage: tests/sdk/setup.sh [javascript|python|rust|go|java|suite ...]      (default: all whose tools are there)
#
# JavaScript, Python and Rust are needed by the tests. Go and Java are taken where the machine has their tools (`go`; a JDK
# and `mvn`), and never installed. The suite is the Python SDK's own tests, which are in its source distribution; where
# that cannot be had the status is 75. It is made only when asked for.
#
# Everything lives in ${ETAGDB_CACHE:-$HOME/.cache/etagdb}/sdk. A part is made again only when its lock file, its tool's
# version or this script has changed, which its stamp tells. Versions come from the lock files alone. The last lines on
# standard output are NAME=PATH, one for each part: a directory with `node_modules` and a `node` to run programs with, the
# Python interpreter, the compiled program; for the suite a directory with `tests` and `venv`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ETAGDB_CACHE:-$HOME/.cache/etagdb}/sdk
parts=("$@")

# True if the machine has what an optional part is built with.
has_tools() {
  case $1 in
    go) type -P go >/dev/null ;;
    java) type -P java javac keytool mvn >/dev/null ;;
  esac
}

[ ${#parts[@]} -gt 0 ] || {
  parts=(javascript python rust)
  for optional in go java; do
    if has_tools "$optional"; then parts+=("$optional"); else echo "sdk set-up: skipping $optional: no tools" >&2; fi
  done
}

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

go() {
  # go knows by itself what is up to date, and checks what it downloads against go.sum.
  (cd "$here/go" && command go build -mod=readonly -o "$cache/go/sdk-go" .) >&2
  echo "go=$cache/go/sdk-go"
}

java() {
  local dir=$cache/java source=$here/java stamp
  stamp="$(hash_of "$source/pom.xml" "$source/Sdk.java" "$source/Conformance.java") $(command javac -version 2>&1)"
  if ! fresh "$dir" "$stamp"; then
    say "installing the Java SDK"
    rm -rf "$dir"
    mkdir -p "$dir/classes"
    mvn -q -B -f "$source/pom.xml" dependency:copy-dependencies -DoutputDirectory="$dir/lib" >&2
    javac -cp "$dir/lib/*" -d "$dir/classes" "$source/Sdk.java" "$source/Conformance.java" >&2
    # Java trusts what is in a store of its own kind. The SDK takes clear text only when told to by this property.
    cat >"$dir/sdk-java" <<'EOF'
#!/usr/bin/env bash
set -euo pipefail
dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
options=(-DCOSMOS.HTTP_CONNECTION_WITHOUT_TLS_ALLOWED=true)
if [ -n "${SSL_CERT_FILE:-}" ]; then
  trusted=$(mktemp -d)
  trap 'rm -rf "$trusted"' EXIT
  keytool -importcert -noprompt -alias etagdb -file "$SSL_CERT_FILE" -keystore "$trusted/store" -storepass changeit 2>&1 |
    grep -v 'was added' || true
  options+=("-Djavax.net.ssl.trustStore=$trusted/store" -Djavax.net.ssl.trustStorePassword=changeit)
fi
java "${options[@]}" -cp "$dir/classes:$dir/lib/*" "${SDK_PROGRAM:-Sdk}" "$@"
EOF
    chmod +x "$dir/sdk-java"
    echo "$stamp" >"$dir/stamp"
  fi
  echo "java=$dir/sdk-java"
}

suite() {
  local dir=$cache/suite source=$here/suite stamp
  local package=azure-cosmos archive=azure_cosmos version sha256
  version=$(sed -n "s/^$package==//p" "$source/requirements.txt")
  sha256=d692928a54d88163e96d41d8f899229ca2f6a6bf21973ece2bfc1f72d4b4edd8
  stamp="$(hash_of "$source/requirements.txt") $(python3 --version)"
  if ! fresh "$dir" "$stamp"; then
    say "fetching the Python SDK's own tests"
    rm -rf "$dir"
    python3 -m venv "$dir/venv"
    # pip takes the registry it is configured for; the archive is checked, whoever it came from.
    "$dir/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps -r "$source/requirements.txt" >&2 &&
      "$dir/venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: -d "$dir" \
        "$package==$version" >&2 || {
      say "the Python SDK's own tests cannot be fetched"
      exit 75
    }
    echo "$sha256  $dir/$archive-$version.tar.gz" | sha256sum --check --quiet >&2 ||
      die "the source distribution of $package $version is not the one that is known"
    "$dir/venv/bin/python" -m pip check >&2
    tar -xzf "$dir/$archive-$version.tar.gz" -C "$dir" --strip-components 1 "$archive-$version/tests"
    echo "$stamp" >"$dir/stamp"
  fi
  echo "suite=$dir"
}

mkdir -p "$cache"
# Two runs at once would tread on each other's installations.
exec 9>"$cache/lock"
flock 9
for part in "${parts[@]}"; do
  case $part in
    javascript | python | rust | suite) "$part" ;;
    go | java)
      has_tools "$part" || die "the tools of $part are missing"
      "$part"
      ;;
    *) die "there is no part called $part; the parts are javascript, python, rust, go, java and suite" ;;
  esac
done
