#!/bin/sh
# Trains a model, promotes it, trains another on newer posts, and compares the two, in a temporary project folder.
# The posts are synthetic, generated from a seed by `retrainer posts sample`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export RETRAINER_CONTENT_MODEL__ALGORITHM=baseline  # claude_api needs an API key

run() {
    printf '\n$ retrainer %s\n' "$*"
    retrainer "$@"
}

cd "$folder"
echo "This demo uses synthetic posts in the temporary project folder $folder."
run init
run posts sample first.csv --before 2024-05-01
run posts import first.csv
run train
run production
run posts sample newer.csv
run posts import newer.csv
run train
version() { retrainer versions --type timing --json | python3 -c "import json, sys; print(json.load(sys.stdin)['versions'][$1]['version_id'])"; }
run compare "$(version 1)" "$(version 0)"
run history
