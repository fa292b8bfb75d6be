# Sourced, not run. Reads packages of one Debian suite through a private apt tree, whatever release or architecture
# this machine runs. Nothing outside of the private directory changes. Works unprivileged.
#
# The archive is the main archive of this machine's apt sources, unless archive_uri names another one. apt verifies its
# signature with archive_keyring, or by default with Debian's own keyring.

# Prints the main archive as "URI KEYRING". KEYRING is empty where Debian's keyring is not installed.
debian_archive() {
  local codename uri=${archive_uri:-} keyring=${archive_keyring:-} file
  if [ -z "$uri" ]; then
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # Without --no-release-info apt prints nothing before the machine's first apt-get update.
    uri=$(apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
      awk -v codename="$codename" '!uri && ($2 == codename || $2 == "stable") { uri = $1 } END { print uri }')
  fi
  [ -n "$uri" ] || { echo "apt's sources on this machine have no Debian archive for '$codename'" >&2; return 1; }
  for file in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
    if [ -z "$keyring" ] && [ -e "$file" ]; then keyring=$file; fi
  done
  echo "$uri $keyring"
}

# debian_stanza SUITE...: prints a deb822 source with those suites of the main archive.
debian_stanza() {
  local archive uri keyring
  archive=$(debian_archive) || return 1
  read -r uri keyring <<<"$archive"
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$*"
  [ -z "$keyring" ] || printf 'Signed-By: %s\n' "$keyring"
}

# suite_settings DIR ARCHITECTURE: prints the apt configuration of the private tree. apt reads it after this machine's
# configuration, of which the proxy and the credentials stay in force.
suite_settings() {
  cat <<END
#clear APT::Architectures;
#clear APT::Update;
APT::Architecture "$2";
APT::Architectures { "$2"; };
APT::Get::AllowUnauthenticated "false";
APT::Get::List-Cleanup "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::GzipIndexes "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::Cache "$1/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$1/sources";
Dir::State "$1/state";
Dir::State::lists "$1/lists";
Dir::State::status "/dev/null";
END
}

# suite_apt DIR COMMAND...: runs apt-get (or apt-cache, if that is the first word) on the private tree in DIR.
suite_apt() {
  local dir=$1 tool=apt-get
  shift
  case $1 in apt-*) tool=$1 && shift ;; esac
  LC_ALL=C.UTF-8 "$tool" -q -c "$dir/apt.conf" "$@"
}

# suite_open DIR SUITE [ARCHITECTURE]: makes the private tree in DIR and reads the suite's package list into it. The
# default is this machine's architecture.
suite_open() {
  local dir=$1 suite=$2 architecture=${3:-$(dpkg --print-architecture)}
  mkdir -p "$dir/sources" "$dir/state" "$dir/lists/partial" "$dir/cache/archives/partial"
  dir=$(cd "$dir" && pwd)
  suite_settings "$dir" "$architecture" >"$dir/apt.conf"
  debian_stanza "$suite" >"$dir/sources/$suite.sources" || return 1
  printf 'Architectures: %s\nTargets: Packages\n' "$architecture" >>"$dir/sources/$suite.sources"
  suite_apt "$dir" update >"$dir/update.log" 2>&1 || { suite_problem "$suite" "$dir/update.log" >&2; return 1; }
}

# suite_problem SUITE LOG: prints why apt could not read the suite's package list.
suite_problem() {
  local archive kind
  archive=$(debian_archive)
  case $(cat "$2") in
    *"GPG error"* | *"is not signed"* | *"OpenPGP signature"*) kind="has no valid signature on Debian $1" ;;
    *"does not have a Release file"*) kind="has no suite $1" ;;
    *"is not valid yet"* | *"is expired"*) kind="has a Release file of Debian $1 that is out of date, or this machine's clock is wrong" ;;
    *"Hash Sum mismatch"* | *"unexpected size"*) kind="has a package list of Debian $1 with a wrong digest" ;;
    *) kind="cannot be reached" ;;
  esac
  echo "the archive ${archive% *} $kind ($(apt_error "$2"))"
}

# apt_error LOG: prints apt's first error message, or its first warning.
apt_error() {
  local line
  line=$(grep -m1 '^E: ' "$1" || grep -m1 '^W: ' "$1" || echo 'E: apt reported no error')
  echo "${line:3}" | tr -s ' '
}

# suite_fetch DIR PACKAGE[=VERSION]...: downloads those packages into the working directory.
suite_fetch() {
  local dir=$1
  shift
  suite_apt "$dir" download "$@"
}
