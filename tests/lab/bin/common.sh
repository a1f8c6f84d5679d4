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

# Whatever this machine itself installs Debian packages from.
debian_mirror() {
  local mirror
  # shellcheck disable=SC2016 # apt expands it
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)
  [[ $mirror ]] || die "apt lists no Debian mirror; run apt-get update"
  echo "$mirror"
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
