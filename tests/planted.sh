#!/bin/bash
# Plants the bugs of tests/planted/ one at a time in a copy of the source: a simulation that finds none of its
# own accord is worth nothing. One line a bug: who found it, and after how much. Exit status 1 if one survives.
# Names of bugs as arguments plant those only; whoever gives them knows that without a bug nobody finds one. Half of them at
# a time on each of two copies.
set -euo pipefail
export SEEDS=${SEEDS:-500}
unset SEED

root=$(cd "$(dirname "$0")/.." && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
export GIT_CEILING_DIRECTORIES=$temp
# Built for every bug and mostly run for a moment.
export CARGO_PROFILE_TEST_DEBUG=0 CARGO_PROFILE_TEST_CODEGEN_UNITS=256
simulations=(locks_sim hub_sim signals_sim ha_sim)

bugs=("$@")
is_whole=no
if [ ${#bugs[@]} = 0 ]; then
    is_whole=yes
    for patch in "$root"/tests/planted/*.patch; do
        bugs+=("$(basename "$patch" .patch)")
    done
fi

die() {
    echo "planted: $*" >&2
    [ ! -f log ] || tail -n 30 log >&2
    exit 1
}

# TLS and dflock(1) are no part of the simulations.
features=(--no-default-features --features http)
build() { cargo test --quiet "${features[@]}" --no-run --test inner >log 2>&1; }
# With the simulation as an argument.
simulate() { timeout 120 cargo test --quiet "${features[@]}" --test inner "$1" -- --nocapture >log 2>&1; }

# Who is likely to find a bug comes first.
order() {
    case $(sed -n 's/^--- a.[a-z]*.\([a-z_/]*\).*/\1/p' "$1") in
        *hub/keep* | *store*) echo ha_sim hub_sim ;;
        *signals*) echo signals_sim hub_sim locks_sim ;;
        *hub* | *wire* | *buffer*) echo hub_sim locks_sim signals_sim ha_sim ;;
        *) echo locks_sim hub_sim signals_sim ;;
    esac
}

plant() {
    local bug=$1 patch=$root/tests/planted/$1.patch simulation line seed steps
    git apply -C1 "$patch" >log 2>&1 || die "$bug does not apply any more"
    if ! build; then
        printf '%-28s DOES NOT COMPILE ANY MORE\n' "$bug"
        git apply -R -C1 "$patch"
        return 1
    fi
    for simulation in $(order "$patch"); do
        simulate "$simulation" && continue
        # Killed or aborted is not found: a failure says how to have it again.
        line=$(grep -o 'after [0-9]* steps; again with: SEED=[0-9]*' log) || continue
        line=${line/ steps; again with: SEED=/ }
        read -r _ steps seed <<<"$line"
        printf '%-28s %s (seed %s, step %s)\n' "$bug" "$simulation" "$seed" "$steps"
        git apply -R -C1 "$patch"
        return 0
    done
    printf '%-28s SURVIVES\n' "$bug"
    git apply -R -C1 "$patch"
    return 1
}

# Every second bug from the one at $1 on, in a tree of its own.
gallery() {
    mkdir "$temp/$1"
    cp -r "$root"/{Cargo.toml,Cargo.lock,src,tests} "$temp/$1"
    cd "$temp/$1"
    # The dialogues and the graphs find nothing here, and would be compiled for every bug.
    sed -i '/^mod dialogue;/d; /^mod knots;/d' tests/inner/main.rs
    export CARGO_TARGET_DIR=$temp/$1/target
    local status=0 at
    if [ "$is_whole" = yes ]; then
        # Without a bug nobody finds one: each copy asks a part of them.
        build || die "the simulations do not compile"
        for ((at = $1; at < ${#simulations[@]}; at += 2)); do
            simulate "${simulations[at]}" || die "${simulations[at]} fails without a planted bug"
        done
    fi
    for ((at = $1; at < ${#bugs[@]}; at += 2)); do
        plant "${bugs[at]}" || status=1
    done
    return "$status"
}

(gallery 0) &
first=$!
status=0
[ ${#bugs[@]} = 1 ] || (gallery 1) || status=1
wait "$first" || status=1
exit "$status"
