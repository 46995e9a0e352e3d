#!/bin/sh
# Fuzzes with coverage on the stable compiler: scripts/fuzz.sh [SECONDS] [TARGET...]
# Without targets, every one of them, one after the other. What is found stays in fuzz/corpus, an
# input that fails in fuzz/artifacts.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- $(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' fuzz/Cargo.toml)

# Flags are for the host's code, not for build scripts; so RocksDB need not be built again.
target_dir=$(cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
built() { find "$target_dir/release/build" -name librocksdb.a 2>/dev/null | head -n 1; }
[ -n "$(built)" ] || cargo build --release --locked
host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
for kind in inline-8bit-counters pc-table trace-compares; do
    coverage="$coverage -Cllvm-args=-sanitizer-coverage-$kind"
done
ROCKSDB_STATIC=1 ROCKSDB_LIB_DIR=$(dirname "$(built)") RUSTFLAGS=$coverage \
    cargo build --release --locked --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$target_dir/fuzz"

seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
mkdir -p "$seeds/files" "$seeds/records"
cp examples/*.toml "$seeds/files"
for fixture in tests/fixtures/*.hex; do
    tr -d '\n' <"$fixture" | tr a-f A-F | basenc --base16 -d >"$seeds/records/$(basename "$fixture" .hex)"
done

for target in "$@"; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target" "$seeds/$target"
    dictionary=fuzz/$target.dict
    [ ! -f "$dictionary" ] || set_dictionary=-dict=$dictionary
    echo "== $target, $seconds s"
    "$target_dir/fuzz/$host/release/$target" -max_total_time="$seconds" -max_len=4096 \
        -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" \
        ${set_dictionary-} "fuzz/corpus/$target" "$seeds/$target" 2>&1 | tee "$seeds/said" |
        grep -E 'DONE|ERROR|SUMMARY|panicked|stat::number_of_executed|Test unit written' || true
    unset set_dictionary
    [ -z "$(ls "fuzz/artifacts/$target")" ] || { echo "$target: see fuzz/artifacts/$target" >&2; exit 1; }
    # A program that did not start, or was killed, leaves no artifact.
    grep -q DONE "$seeds/said" || { tail "$seeds/said" >&2; echo "$target: did not run to its end" >&2; exit 1; }
done
