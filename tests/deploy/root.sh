# To be sourced at the root of the repository: `new_root FOLDER` unpacks a small Debian there, which is fetched once with debootstrap and kept below
# .tools/, or below FERRY_TOOLS. Needs root. Ends with 2 if something cannot be had.
# shellcheck shell=bash
suite=bookworm
kept=${FERRY_TOOLS:-.tools}/roots/$suite-1.tar

need() {
  local missing=()
  for package in "$@"; do dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package"); done
  [ "${#missing[@]}" = 0 ] && return
  echo "${0##*/}: installing ${missing[*]}" >&2
  apt-get update -q >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" >&2
}

[ "$(id -u)" = 0 ] || { echo "${0##*/}: needs root, for a root file system of its own" >&2; exit 2; }
if [ ! -f "$kept" ]; then
  need debootstrap
  mkdir -p "${kept%/*}"
  made=$(mktemp -d)
  echo "${0##*/}: fetching Debian $suite" >&2
  debootstrap --variant=minbase --include=adduser,ca-certificates,init-system-helpers "$suite" "$made" >&2
  rm -rf "$made"/var/cache/apt/archives/*.deb
  # Nothing of it starts a service.
  printf '#!/bin/sh\nexit 101\n' >"$made/usr/sbin/policy-rc.d"
  chmod 755 "$made/usr/sbin/policy-rc.d"
  tar --create --directory="$made" --one-file-system --file="$kept.part" .
  rm -rf "$made"
  mv "$kept.part" "$kept"
fi

new_root() {
  mkdir -p "$1"
  tar --extract --directory="$1" --file="$kept" --numeric-owner
}

# inside ROOT COMMAND...: with the network and the names of this machine.
inside() {
  local root=$1
  shift
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  # With a /proc of its own, which ends with the command.
  unshare --mount --pid --fork --mount-proc="$root/proc" chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"
}
