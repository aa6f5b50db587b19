#!/bin/sh
# A model is trained, promoted, retrained on newer posts and compared, in a project folder of its own.
# The posts are synthetic: `retrainer posts sample` makes them up from a seed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export RETRAINER_CONTENT_MODEL__ALGORITHM=baseline  # claude_api would need a key

run() {
    printf '\n$ retrainer %s\n' "$*"
    retrainer "$@"
}

cd "$folder"
echo "The posts of this demo are synthetic. The project folder is $folder, removed at the end."
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
