# Sourced by the scripts of this directory.
# shellcheck shell=bash disable=SC2034

# Everything built lives outside the checkout, named after a hash of what it was built from.
cache=${CSM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/code-server-multi}
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

die() { echo "${0##*/}: $*" >&2; exit 1; }

# What apt prints only matters when it fails.
apt_quiet() {
  local log
  log=$(mktemp)
  if ! env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "failed: $*"
  fi
  rm -f "$log"
}

# PACKAGE...: installs those that are missing. The lists may be old, or missing where all else was installed long ago.
packages() {
  local missing=() one
  for one; do
    [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$one" 2>/dev/null) == installed ]] || missing+=("$one")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  echo "installing ${missing[*]}" >&2
  apt_quiet apt-get update
  apt_quiet apt-get install -y --no-install-recommends "${missing[@]}"
}

debian_mirrors() {
  # shellcheck disable=SC2016 # apt expands it
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian'
}

# Whatever this machine itself installs Debian packages from.
debian_mirror() {
  local mirrors
  mirrors=$(debian_mirrors)
  # Where every package is installed already, nobody may have asked for the lists yet: a fresh machine has none.
  if [[ ! $mirrors ]]; then
    apt_quiet apt-get update
    mirrors=$(debian_mirrors)
  fi
  [[ $mirrors ]] || die "apt-get update found no Debian mirror; see the apt sources of this machine"
  head -n 1 <<<"$mirrors"
}

# PATH BUILDER ARGUMENTS...: the builder gets a new name to write to, which takes its place only when
# complete and on disk, so that neither a crash nor a second caller ever sees half of it.
once() {
  local place=$1 new=$1.new
  shift
  [[ -e $place ]] && return
  mkdir -p "${place%/*}"
  exec 9>"$place.lock"
  flock 9
  if [[ ! -e $place ]]; then
    rm -rf --one-file-system "$new"
    "$@" "$new"
    sync --file-system "${place%/*}"
    mv "$new" "$place"
  fi
  exec 9>&-
}

# Twelve characters that change with any of what is read.
short_hash() { sha256sum | cut -c1-12; }
