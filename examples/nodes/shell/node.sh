#!/bin/sh
# A node in plain shell. It needs redis-cli 7, takes one job at a time and gives it to a command: the payload is the
# command's input, its output is the result, and a status other than 0 is a failure.
#
#   ./node.sh ID "CAPABILITY ..." COMMAND [ARGUMENT ...]
#
# REDIS_URL and FLEET_NAMESPACE say where the fleet is. For one server: redis-cli does not follow a cluster in scripts.
set -u
[ $# -ge 3 ] || { echo "usage: $0 ID \"CAPABILITY ...\" COMMAND [ARGUMENT ...]" >&2; exit 2; }
id=$1 capabilities=$2
shift 2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
leaving=
trap 'leaving=1' TERM INT

redis() { redis-cli -u "${REDIS_URL:-redis://127.0.0.1:6379}" --no-auth-warning -e "$@"; }

# Repeats a call for as long as the server is away. What it refuses would be refused again.
insist() {
  until said=$(redis "$@" 2>&1); do
    echo "$id: $said" >&2
    case $said in *BADARG*) return 1 ;; esac
    sleep 1
  done
  printf '%s\n' "$said"
}

register() {
  insist FCALL fleet1_node_register 1 "$shard" "$id" endpoint "inbox://$id" slots 1 capabilities "$capabilities" \
    >"$dir/told" || return 1
  sed -n 2p "$dir/told" >"$dir/incarnation"
}

# Beside the work, every second. It also brings what to stop.
beat() {
  # a signal to the whole group must not end the heartbeats of a node that drains
  trap '' TERM INT
  while sleep 1 && kill -0 $$ 2>/dev/null; do
    hand=$(cat "$dir/hand" 2>/dev/null)
    told=$(redis FCALL fleet1_node_heartbeat 1 "$shard" "$id" "$(cat "$dir/incarnation")" \
      ${hand:+running "$hand"} 2>/dev/null) || continue
    case $told in
      unknown*) register ;;
      fenced*) touch "$dir/fenced"; kill -TERM $$; return ;;
      *) [ -n "$hand" ] && printf '%s\n' "$told" | grep -qxF "$hand" && kill "$(cat "$dir/pid")" 2>/dev/null ;;
    esac
  done
}

# The next delivery, waited for so many milliseconds: kind, job and fence.
take() {
  now=$(cat "$dir/incarnation")
  # a new incarnation has a new inbox
  [ "$now" = "$incarnation" ] || { incarnation=$now position=0; }
  entry=$(redis XREAD COUNT 1 BLOCK "$1" STREAMS "$shard:node:$id:inbox" "$position" 2>/dev/null) || { sleep 1; return 1; }
  [ -n "$entry" ] || return 1
  # shellcheck disable=SC2086 # the words: the stream, the position, then names and values
  set -- $entry
  position=$2 kind='' job='' fence=''
  shift 2
  while [ $# -ge 2 ]; do
    case $1 in kind) kind=$2 ;; job) job=$2 ;; fence) fence=$2 ;; esac
    shift 2
  done
}

# A part of what was told at the start: 1 the word, 3 the payload, which may have lines, 5 the trace of the request.
sep=$(printf '\036')
part() { awk -v RS="$sep" -v part="$1" 'NR == part' "$dir/started"; }

work() {
  insist -d "$sep" FCALL fleet1_job_start 1 "$shard" "$job" "$fence" >"$dir/started" || return
  # the job may have been cancelled, or be another node's by now
  [ "$(part 1)" = running ] || return
  part 3 >"$dir/payload"
  echo "$job $fence" >"$dir/hand"
  outcome=failed
  TRACEPARENT=$(part 5) sh -c 'echo $$ >"$0"; exec "$@"' "$dir/pid" "$@" <"$dir/payload" >"$dir/result" && outcome=succeeded
  rm -f "$dir/hand"
  # -x: the result is the last argument, and may be longer than an argument of a command can be
  until redis -x FCALL fleet1_job_finish 1 "$shard" "$job" "$fence" "$outcome" <"$dir/result" >"$dir/told"; do sleep 1; done
  echo "$id: $job $outcome"
}

shard=$(insist FCALL fleet1_shard_find 1 "${FLEET_NAMESPACE:-fleet}:{0}" "$id" | sed -n 2p)
[ -n "$shard" ] && register || exit 1
incarnation=$(cat "$dir/incarnation") position=0
echo "$id: registered in $shard"
beat &
beating=$!

while [ -z "$leaving" ]; do
  take 1000 || continue
  case $kind in
    job) work "$@" ;;
    # one that is over is confirmed, which frees its slot
    cancel) redis FCALL fleet1_job_finish 1 "$shard" "$job" "$fence" failed >/dev/null ;;
  esac
done

if [ -e "$dir/fenced" ]; then
  echo "$id: another process has this id" >&2
  exit 3
fi
insist FCALL fleet1_node_mark 1 "$shard" "$id" drain >/dev/null
# what was delivered and is not begun goes to another node
while take 1; do
  [ "$kind" = job ] && redis FCALL fleet1_job_finish 1 "$shard" "$job" "$fence" released >/dev/null
done
kill -9 "$beating"
redis FCALL fleet1_node_remove 1 "$shard" "$id" "$(cat "$dir/incarnation")" >/dev/null
echo "$id: left"
