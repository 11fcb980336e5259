#!/bin/sh
# Runs a command, and shows the rows of a table that it printed once more when it is done: a long run, to be kept.
# Usage: summary.sh COMMAND...
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$(date +%s)
{ "$@" 2>&1; echo $? >"$log.status"; } | tee "$log"
status=$(cat "$log.status")
rm -f "$log.status"
echo
echo "$(date -u +'%d %B %Y'), $(nproc) cores, $((($(date +%s) - began) / 60)) minutes, seed ${ETAGDB_SEED:-0}:"
echo
echo "| test | done | compared | wrong | time |"
echo "|---|---|---|---|---|"
# A test's row may come after its name on the same line.
sed -n 's/.*\(| .* | .* | .* | .* | [0-9]* s |\)$/\1/p' "$log"
echo
grep '^test result:' "$log"
grep 'FAILED\|^SKIPPED' "$log"
exit "$status"
