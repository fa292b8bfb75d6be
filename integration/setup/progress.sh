# Sourced, not run. Reports what runs and for how long, so that no command is silent for more than HEARTBEAT seconds.

HEARTBEAT=20 # seconds

# say TEXT...: prints a line with the time since the start of the script.
say() { printf '[%3d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }

# step NAME COMMAND...: runs a command. Its output goes to a log, which is printed if the command fails. The last line of
# the log is repeated while the command runs. A function runs in the current shell, with `set -e` off.
step() {
  local name=$1 log begun=$SECONDS code=0 pulse
  shift
  log=${STEP_LOG:-$(mktemp)}
  say "$name"
  : >"$log"
  pulse_of "$name" "$log" &
  pulse=$!
  "$@" >"$log" 2>&1 </dev/null || code=$?
  kill "$pulse" 2>/dev/null || true
  wait "$pulse" 2>/dev/null || true
  if [ "$code" != 0 ]; then
    cat "$log"
    say "failed after $((SECONDS - begun)) s: $name"
  elif [ $((SECONDS - begun)) -ge "$HEARTBEAT" ]; then
    say "done after $((SECONDS - begun)) s: $name"
  fi
  [ -n "${STEP_LOG:-}" ] || rm -f "$log"
  return "$code"
}

# pulse_of NAME LOG: prints a line every HEARTBEAT seconds until it is killed or the script ends.
pulse_of() {
  local begun=$SECONDS
  while sleep "$HEARTBEAT" </dev/null >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    say "  $((SECONDS - begun)) s: $1: $(tail -n 1 "$2" | tr -d '\r' | cut -c1-120)"
  done
}

# follow NAME: copies standard input line by line. After HEARTBEAT seconds without a line it reports what it waits for.
follow() {
  local part='' line code quiet=$SECONDS
  while true; do
    code=0
    IFS= read -r -t "$HEARTBEAT" line || code=$?
    part+=$line
    if [ "$code" = 0 ]; then
      printf '%s\n' "$part"
      part='' quiet=$SECONDS
    elif [ "$code" -gt 128 ]; then
      say "  $1: no output for $((SECONDS - quiet)) s${part:+, at: $part}"
    else
      [ -z "$part" ] || printf '%s\n' "$part"
      return 0
    fi
  done
}
