# Sourced by demo, test and bench, not run: installs, builds and stages, and exports where things are.
# Wants $root (the tree) to be set. Progress goes to standard output.

# prepare_world [STAGE-OPTION...]: the options name the boot programs that are required. Default: all of them.
prepare_world() {
  [ "$(id -u)" = 0 ] || { echo "$0: network namespaces need root: sudo $0" >&2; exit 1; }
  "$root/integration/install-packages"
  . "$root/integration/toolchain.sh"
  toolchain "$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")" || exit 1
  "$root/firmware/stage" "$@" || exit 1
  LAB_ISO=$("$root/integration/iso/build")
  LAB_FIRMWARE=$root/firmware/staged
  export LAB_ISO LAB_FIRMWARE PYTHONPATH=$root/integration PYTHONDONTWRITEBYTECODE=1
}

# cargo_here ARGUMENT...: cargo in the tree, as the tree's owner.
cargo_here() { (cd "$root" && "${CARGO_AS[@]}" CARGO_TARGET_DIR="$target" cargo "$@"); }

# build_binary PROFILE: dev or release; exports LAB_BINARY.
build_binary() {
  local folder=debug
  [ "$1" = dev ] || folder=$1
  echo "building bootlatch ($1)"
  cargo_here build --locked --profile "$1" --bin bootlatch
  export LAB_BINARY=$target/$folder/bootlatch
}

target=${CARGO_TARGET_DIR:-$root/target}

# in_tree COMMAND...: a command in the tree with the toolchain's PATH.
in_tree() { (cd "$root" && "${CARGO_AS[@]}" "$@"); }

# install_deny FOLDER: builds cargo-deny from the registry into it.
install_deny() {
  mkdir -p "$1"
  [ "${CARGO_AS[0]}" != runuser ] || chown "$SUDO_USER" "$1"
  cargo_here install --locked cargo-deny --root "$1" --target-dir "$target/tools"
}
