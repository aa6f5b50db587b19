#!/bin/sh
# Promotes a first version and a better one, rejects a worse one, rolls back, forecasts, and replays policies, in a new
# project folder, which it leaves for you to look at. The posts are synthetic, from a fixed seed, and end in October 2024: every call of this
# script shows the same figures.
set -eu

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

show() {
    printf '\n$ retrainer'
    for word in "$@"; do case $word in *' '*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac; done
    printf '\n'
}

run() {
    show "$@"
    retrainer --quiet "$@"
}

draw() {  # pictures are drawn on a terminal only; in a pipe, use one of our own
    if [ -t 1 ]; then run "$@"; return; fi
    show "$@"
    terminal='import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))'
    drawn=$(TERM=dumb NO_COLOR=1 "$bin/python3" -c "$terminal" "$bin/retrainer" --quiet "$@" </dev/null)
    printf '%s\n' "$drawn" | tr -d '\r'
}

for name in $(env | sed -n 's/^\(RETRAINER_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done
bin=$(dirname "$(command -v retrainer)")
folder=$(mktemp -d "${TMPDIR:-/tmp}/retrainer-demo.XXXXXX")
cd "$folder"

say "1. A project, with the posts of a working week until June: about one at noon and one in the evening, and threads."
run init
run posts sample first.csv --working-week --count 900 --before 2024-07-01
run posts import first.csv

say "2. The first version is the naive forecast, which expects the usual gap. There is nothing to compare it with."
run train timing --algorithm baseline --as-of 2024-07-01

say "3. Newer posts, and an algorithm that learns the hours and the days. It must prove that it is better."
run config set retraining.timing_model.evaluation_max_predictions 500
run config set retraining.min_confidence 0.95
run posts sample newer.csv --working-week --count 900
run posts import newer.csv
run train timing --as-of 2024-10-30T22:00

say "4. A candidate that knows the newer posts, but nothing of hours and days: it is worse, and is not promoted."
run train timing --algorithm baseline --as-of 2024-10-31T08:00

say "5. Somebody promotes it by hand all the same. It is undone in a second."
run promote timing@latest --reason "simpler"
run rollback timing --reason "misses the evenings"
run history

say "6. When does the next post come? Soon, if it continues a thread, and otherwise tomorrow at noon."
draw predict timing --at last

say "7. What would other policies have done? Never retrain, retrain weekly as configured, promote every version:"
run replay timing --from 2024-10-10

say "8. All of this as one file for a browser, to mail or to print:"
run report

say "The project is in $folder. Three things to try:"
cat <<END
  . $bin/activate && cd $folder

  retrainer show timing@production          what this version knows, and which inputs matter to its forecasts
  retrainer replay timing --from 2024-06-01 --policy "monthly: schedule_days=28" --plot replay.svg
  retrainer init ~/my-project && cd ~/my-project && retrainer posts import YOUR-POSTS.csv && retrainer train timing
END
