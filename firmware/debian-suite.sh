# Sourced, not run. Packages of one Debian suite through a private apt tree, next to whatever release
# runs here: the archive and its keyring are the ones this machine is configured with, and nothing
# outside the private directory changes. Works unprivileged.

# debian_archive: the configured main archive as "URI KEYRING" (KEYRING may be empty).
debian_archive() {
  local codename line uri keyring
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  line=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk -v c="$codename" '$2 == c || $2 == "stable" { print $1; exit }')
  [ -n "$line" ] || { echo "no Debian archive for '$codename' among apt's sources" >&2; return 1; }
  uri=$line
  for keyring in /usr/share/keyrings/debian-archive-keyring.gpg \
    /usr/share/keyrings/debian-archive-keyring.pgp; do
    [ -e "$keyring" ] && { echo "$uri $keyring"; return; }
  done
  echo "$uri"
}

# debian_stanza SUITE...: a deb822 source for those suites of the configured archive.
debian_stanza() {
  local archive uri keyring
  archive=$(debian_archive) || return 1
  read -r uri keyring <<<"$archive"
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$*"
  [ -z "$keyring" ] || printf 'Signed-By: %s\n' "$keyring"
}

# suite_apt DIR COMMAND...: apt-get (or apt-cache, when named first) on the private tree in DIR.
suite_apt() {
  local dir=$1 tool=apt-get
  shift
  case $1 in apt-*) tool=$1 && shift ;; esac
  "$tool" -q ${suite_architecture:+-o APT::Architectures::="$suite_architecture"} -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$dir/sources" \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o Dir::State="$dir/state" -o Dir::State::lists="$dir/lists" -o Dir::State::status=/dev/null \
    -o Dir::Cache="$dir/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none \
    -o APT::Get::List-Cleanup=false -o Acquire::Retries=3 \
    -o APT::Update::Post-Invoke-Success::= -o APT::Update::Post-Invoke::= "$@"
}

# suite_open DIR SUITE [ARCHITECTURE]: makes the private tree and reads the suite's package lists into it. Of
# another architecture than this machine's, packages are named NAME:ARCHITECTURE.
suite_open() {
  local dir=$1 suite=$2
  [ -z "${3:-}" ] || suite_architecture=$3
  mkdir -p "$dir/sources" "$dir/state" "$dir/lists/partial" "$dir/cache/archives/partial"
  debian_stanza "$suite" >"$dir/sources/$suite.sources" || return 1
  [ -z "${suite_architecture:-}" ] || echo "Architectures: $suite_architecture" >>"$dir/sources/$suite.sources"
  suite_apt "$dir" update >"$dir/update.log" 2>&1 ||
    { cat "$dir/update.log" >&2; echo "apt could not read Debian $suite's package lists" >&2; return 1; }
}

# suite_fetch DIR NAME[=VERSION]...: downloads those packages into the working directory.
suite_fetch() {
  local dir=$1
  shift
  suite_apt "$dir" download "$@"
}
