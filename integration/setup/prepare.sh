# Sourced by demo, test and bench, not run: installs, builds and stages what they need, and exports where it is.
# Needs $root, the root of the tree. Progress goes to standard output.

. "$root/integration/setup/progress.sh"
. "$root/integration/setup/toolchain.sh"

target=${CARGO_TARGET_DIR:-$root/target}

# prepare_environment [STAGE-OPTION...]: the options name the boot programs that are required. Default: all of them.
prepare_environment() {
  [ "$(id -u)" = 0 ] || { echo "$0: network namespaces need root: sudo $0" >&2; exit 1; }
  step "installing the packages that are missing" "$root/integration/setup/install-packages" || exit 1
  toolchain "$(rust_version)" || { echo "$0: no Rust toolchain" >&2; exit 1; }
  step "staging the boot programs" "$root/firmware/stage" "$@" || exit 1
  step "building the lab's ISO" build_iso || exit 1
  LAB_FIRMWARE=$root/firmware/staged
  export LAB_ISO LAB_FIRMWARE PYTHONPATH=$root/integration PYTHONDONTWRITEBYTECODE=1
}

build_iso() { LAB_ISO=$("$root/integration/fixtures/iso/build"); }

# rust_version: prints the oldest Rust that the appliance builds with.
rust_version() { sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml"; }

# in_tree COMMAND...: runs a command in the tree with the toolchain's PATH, as the owner of the tree.
in_tree() { (cd "$root" && "${CARGO_AS[@]}" "$@"); }

# cargo_here ARGUMENT...: runs cargo in the tree.
cargo_here() { in_tree env CARGO_TARGET_DIR="$target" cargo "$@"; }

# build_binary PROFILE: builds the appliance with the profile `dev` or `release`, and exports LAB_BINARY.
build_binary() {
  local folder=debug
  [ "$1" = dev ] || folder=$1
  step "building bootlatch ($1)" cargo_here build --locked --profile "$1" --bin bootlatch || exit 1
  export LAB_BINARY=$target/$folder/bootlatch
}
