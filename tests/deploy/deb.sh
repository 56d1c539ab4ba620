#!/usr/bin/env bash
# Makes the Debian package, and installs, upgrades, removes and purges it in a small Debian of its own: without systemd, where postinst makes user and
# folders itself, and with it. Checks what is there after each step. Needs root, and the network once. Usage: tests/deploy/deb.sh
#
# FERRY_BINARY=FILE packs that program; without it one is built. The package is made by cargo-deb, installed below .tools/ where the machine has
# none: that compiles it. DEB=FILE checks a package that is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/deploy/root.sh
. tests/deploy/root.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() {
  echo "$*"
  failed=1
}

if [ -z "${DEB:-}" ]; then
  export PATH=$PATH:${FERRY_TOOLS:-.tools}/cargo-deb/bin
  if ! command -v cargo-deb >/dev/null; then
    echo "deb.sh: installing cargo-deb" >&2
    cargo install --quiet --locked --root "${FERRY_TOOLS:-.tools}/cargo-deb" cargo-deb@3.8.0 >&2
  fi
  if [ -n "${FERRY_BINARY:-}" ]; then
    mkdir -p "$work/target/release"
    cp "$FERRY_BINARY" "$work/target/release/ferry"
    export CARGO_TARGET_DIR=$work/target
    DEB=$(cargo deb --package ferry-cli --no-build --output "$work/ferry.deb")
  else
    DEB=$(cargo deb --package ferry-cli --locked --output "$work/ferry.deb")
  fi
fi
version=$(dpkg-deb --field "$DEB" Version)
# The same as a later release.
dpkg-deb --raw-extract "$DEB" "$work/later"
sed -i "s/^Version: .*/Version: $version+later/" "$work/later/DEBIAN/control"
echo later >"$work/later/usr/share/doc/ferry/later"
dpkg-deb --build --root-owner-group -Znone "$work/later" "$work/later.deb" >/dev/null

# is PATH MODE OWNER: what stat says of it in the root.
is() {
  local told
  told=$(chroot "$root" stat --format='%a %U:%G' "$1" 2>/dev/null || echo missing)
  [ "$told" = "$2 $3" ] || fail "$case: $1 is $told, not $2 $3"
}
gone() { [ ! -e "$root$1" ] || fail "$case: $1 is still there"; }
there() { [ -e "$root$1" ] || fail "$case: there is no $1"; }
install_package() {
  cp "$1" "$root/package.deb"
  inside "$root" dpkg --install /package.deb >"$work/log" 2>&1 || { cat "$work/log"; fail "$case: it cannot be installed"; }
}
installed() {
  is /usr/bin/ferry 755 root:root
  is /etc/ferry 755 root:root
  is /etc/ferry/secrets 750 root:ferry
  is /var/lib/ferry 755 root:root
  is /var/lib/ferry/coordinator 700 ferry:ferry
  is /var/lib/ferry/node 700 ferry:ferry
  for file in system/ferry-coordinator.service system/ferry-node.service; do is "/usr/lib/systemd/$file" 644 root:root; done
  inside "$root" getent passwd ferry | grep -q ':/var/lib/ferry:.*nologin$' || fail "$case: the user ferry may sign in, or lives elsewhere"
  inside "$root" ferry --version | grep -q '^ferry ' || fail "$case: ferry does not run"
  for file in copyright docs/install/operations.md docs/check.md; do is "/usr/share/doc/ferry/$file" 644 root:root; done
  # Nothing is started or enabled by installing.
  gone /etc/systemd/system/multi-user.target.wants/ferry-coordinator.service
  gone /etc/systemd/system/multi-user.target.wants/ferry-node.service
}

for kind in plain systemd; do
  root=$work/$kind
  new_root "$root"
  case=$kind
  if [ "$kind" = systemd ]; then
    inside "$root" apt-get update -q >"$work/log" 2>&1
    inside "$root" apt-get install -yq --no-install-recommends systemd >>"$work/log" 2>&1 || { cat "$work/log"; exit 2; }
  fi
  # What it depends on is there, or is fetched.
  cp "$DEB" "$root/package.deb"
  inside "$root" sh -c 'apt-get update -q && apt-get install -yq --no-install-recommends /package.deb' >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "$case: apt cannot install it"; }
  case="$kind, installed"
  installed
  lacks=$(inside "$root" ldd /usr/bin/ferry | grep 'not found' || true)
  [ -z "$lacks" ] || fail "$case: $lacks"
  if [ "$kind" = systemd ]; then
    said=$(inside "$root" systemd-analyze verify --man=no /usr/lib/systemd/system/ferry-coordinator.service \
      /usr/lib/systemd/system/ferry-node.service 2>&1 | grep -E 'ferry' | grep -vE "Unknown key( name)? '(RestartSteps|RestartMaxDelaySec)'" || true)
    [ -z "$said" ] || fail "$case: $said"
  fi

  # What whoever installs makes, and what ferry keeps.
  inside "$root" install -m 600 /usr/share/ferry/coordinator.env /usr/share/ferry/node.env /etc/ferry/
  echo "FERRY_TLS=/kept" >>"$root/etc/ferry/coordinator.env"
  inside "$root" install -m 600 -o ferry -g ferry /dev/null /var/lib/ferry/coordinator/ferry.db
  echo rows >"$root/var/lib/ferry/coordinator/ferry.db"
  identity=$(inside "$root" id -u ferry)

  case="$kind, upgraded"
  install_package "$work/later.deb"
  there /usr/share/doc/ferry/later
  installed
  [ "$(cat "$root/var/lib/ferry/coordinator/ferry.db")" = rows ] || fail "$case: the store is another"
  grep -q '^FERRY_TLS=/kept$' "$root/etc/ferry/coordinator.env" || fail "$case: settings are lost"
  is /etc/ferry/coordinator.env 600 root:root
  [ "$(inside "$root" id -u ferry)" = "$identity" ] || fail "$case: the user is another"

  case="$kind, gone back"
  install_package "$DEB"
  gone /usr/share/doc/ferry/later
  installed

  case="$kind, removed"
  inside "$root" dpkg --remove ferry >"$work/log" 2>&1 || { cat "$work/log"; fail "$case: it cannot be removed"; }
  gone /usr/bin/ferry
  gone /usr/lib/systemd/system/ferry-node.service
  there /etc/ferry/coordinator.env
  is /var/lib/ferry/coordinator/ferry.db 600 ferry:ferry

  case="$kind, installed again"
  install_package "$DEB"
  installed
  [ "$(cat "$root/var/lib/ferry/coordinator/ferry.db")" = rows ] || fail "$case: the store is another"

  # Settings go, and so do folders that are empty. The store stays, which may be the only record of what was copied, and is told of.
  case="$kind, purged"
  inside "$root" dpkg --purge ferry >"$work/log" 2>&1 || { cat "$work/log"; fail "$case: it cannot be purged"; }
  grep -q 'rm -r /var/lib/ferry' "$work/log" || fail "$case: what stays is not told of"
  gone /etc/ferry
  gone /var/lib/ferry/node
  there /var/lib/ferry/coordinator/ferry.db
  case="$kind, purged when empty"
  rm "$root/var/lib/ferry/coordinator/ferry.db"
  install_package "$DEB"
  inside "$root" dpkg --purge ferry >"$work/log" 2>&1 || fail "$case: it cannot be purged"
  gone /etc/ferry
  gone /var/lib/ferry
  rm -rf "$root"
done
dpkg-deb --field "$DEB" Package Version Depends Installed-Size
[ "$failed" = 0 ] && echo "tests/deploy/deb.sh: all is well"
exit "$failed"
