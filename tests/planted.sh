#!/bin/bash
# Plants the bugs of tests/planted/ one at a time in a copy of the source: a simulation that finds none of its
# own accord is worth nothing. One line a bug: who found it, and after how much. Exit status 1 if one survives.
set -euo pipefail
export SEEDS=${SEEDS:-500}
unset SEED

root=$(cd "$(dirname "$0")/.." && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
mkdir "$temp/tree"
cp -r "$root"/{Cargo.toml,Cargo.lock,src,tests} "$temp/tree"
cd "$temp/tree"
export GIT_CEILING_DIRECTORIES=$temp CARGO_TARGET_DIR=$temp/target
# Built for every bug and mostly run for a moment: optimising more would cost more than it saves.
export CARGO_PROFILE_TEST_OPT_LEVEL=1 CARGO_PROFILE_TEST_DEBUG=0
simulations=(locks_sim signals_sim hub_sim)

die() {
    echo "planted: $*" >&2
    [ ! -f "$temp/log" ] || tail -n 30 "$temp/log" >&2
    exit 1
}

build() { cargo test --quiet --no-run "${simulations[@]/#/--test=}" >"$temp/log" 2>&1; }

simulate() { timeout 60 cargo test --quiet --test "$1" -- --nocapture >"$temp/log" 2>&1; }

# Without a bug nobody finds one.
build || die "it does not compile"
for simulation in "${simulations[@]}"; do
    simulate "$simulation" || die "$simulation fails without a planted bug"
done

status=0
for patch in "$root"/tests/planted/*.patch; do
    bug=$(basename "$patch" .patch)
    git apply -C1 "$patch" >"$temp/log" 2>&1 || die "$bug does not apply any more"
    build || die "$bug does not compile any more"
    found=
    for simulation in "${simulations[@]}"; do
        simulate "$simulation" && continue
        # Killed or aborted is not found: a failure says how to have it again.
        line=$(grep -o 'after [0-9]* steps; again with: SEED=[0-9]*' "$temp/log") || continue
        line=${line/ steps; again with: SEED=/ }
        read -r _ steps seed <<<"$line"
        found+="${found:+, }$simulation (seed $seed, step $steps)"
    done
    printf '%-22s %s\n' "$bug" "${found:-SURVIVES}"
    [ -n "$found" ] || status=1
    git apply -R -C1 "$patch"
done
exit "$status"
