# Sourced, not run. Finds the Rust toolchain and the user to run it as: under sudo the caller, so that their rustup is
# used and they own what is built.

# toolchain VERSION: sets the array CARGO_AS, the words before a cargo command. Fails if no cargo of that version or newer
# is found.
toolchain() {
  local need=$1 home
  local -a candidate
  CARGO_AS=()
  if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    candidate=(runuser -u "$SUDO_USER" -- env "HOME=$home" "PATH=$home/.cargo/bin:$PATH")
    "${candidate[@]}" test -w "${BASH_SOURCE[0]%/*}" && new_enough "$need" "${candidate[@]}" &&
      { CARGO_AS=("${candidate[@]}"); return 0; }
  fi
  candidate=(env "PATH=${HOME:-/root}/.cargo/bin:$PATH")
  new_enough "$need" "${candidate[@]}" && { CARGO_AS=("${candidate[@]}"); return 0; }
  return 1
}

new_enough() { # VERSION COMMAND...
  local need=$1 have
  shift
  have=$("$@" cargo --version 2>/dev/null | cut -d' ' -f2)
  "$@" rustc --version >/dev/null 2>&1 || return 1
  [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$need" "$have" | sort -V | head -n 1)" = "$need" ]
}
