#!/usr/bin/env bash
# Makes sure that everything needed to build is on this machine; says nothing if it is.
#
# RocksDB is compiled from source, which takes a C++ compiler and libclang (for its bindings).
# Missing Debian packages are installed if that is possible without a password; otherwise the
# command to run is named and the exit code is 1.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }

# libclang itself; libclang-cpp, which some images have alone, does not do.
has_libclang() {
    [[ -n "${LIBCLANG_PATH:-}" ]] && return
    local folder
    for folder in '/usr/lib/llvm-*/lib' '/usr/lib/*' /usr/lib64; do
        compgen -G "$folder/libclang.so*" >/dev/null && return
        compgen -G "$folder/libclang-[0-9]*.so*" >/dev/null && return
    done
    [[ "$(uname -s)" == Darwin ]] && has clang
}

# Everything that is missing is named before the end.
failed=0

rust=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "$0")/../Cargo.toml")
if has cargo; then
    # The older of the two comes first.
    have=$(cargo --version | cut -d ' ' -f 2)
    if [[ "$(printf '%s\n' "$rust" "$have" | sort -V | head -n 1)" != "$rust" ]]; then
        echo "Rust $have is too old; $rust or later is needed: rustup update stable" >&2
        failed=1
    fi
elif [[ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]]; then
    # rustup installs here, and a shell opened before that does not know it.
    echo "cargo is installed but not on PATH; run: . \"${CARGO_HOME:-$HOME/.cargo}/env\"" >&2
    failed=1
else
    echo "cargo is missing; install Rust $rust or later from https://rustup.rs" >&2
    failed=1
fi

missing=()
has c++ || has g++ || has clang++ || missing+=(g++)
has_libclang || missing+=(clang libclang-dev)
has make || missing+=(make)
[[ ${#missing[@]} -eq 0 ]] && exit "$failed"

as_root=()
[[ "$(id -u)" -eq 0 ]] || as_root=(sudo -n)
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}")

if has apt-get && { [[ "$(id -u)" -eq 0 ]] || sudo -n true 2>/dev/null; }; then
    echo "installing ${missing[*]}" >&2
    "${as_root[@]}" apt-get update -q >&2
    "${install[@]}" >&2
    exit "$failed"
fi

echo "missing: ${missing[*]}; on Debian or Ubuntu run:" >&2
echo "  sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
exit 1
