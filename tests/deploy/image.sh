#!/usr/bin/env bash
# Builds the image by the steps of deploy/docker/Dockerfile, and looks at what comes out: who it runs as, what is in it, what it needs, and whether
# a coordinator serves in it with a root file system that is read-only. Usage: tests/deploy/image.sh
#
# Without a registry: buildah takes the steps in a chroot, and the two base images are made here of Debian's packages; the one to build in has a
# stand-in for cargo that brings a program which is there. FERRY_BINARY=FILE is that program, which must have the feature isal; without it one is
# built on this machine, whose C library must not be newer than Debian 12's. Needs root, and the network once.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/deploy/root.sh
. tests/deploy/root.sh
need buildah binutils curl jq
user=65532
work=$(mktemp -d)
container=
# shellcheck disable=SC2317 # the trap calls it
cleanup() {
  if [ -n "$container" ]; then store umount "$container" >/dev/null 2>&1 || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
failed=0
fail() {
  echo "$*"
  failed=1
}
# Images and containers in a folder of their own.
store() { buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"; }

if [ -n "${FERRY_BINARY:-}" ]; then
  program=$(realpath "$FERRY_BINARY")
else
  need libisal-dev
  cargo build --release --locked --features isal >&2
  program=$PWD/target/release/ferry
fi

# base NAME ROOT: an image of a folder.
base() {
  local made
  made=$(store from scratch)
  store add --quiet "$made" "$2" / >/dev/null
  store config --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$made"
  store commit --quiet "$made" "localhost/$1" >/dev/null
  store rm "$made" >/dev/null
}
# To build in: Debian, and what the Dockerfile is to find under the name of cargo.
new_root "$work/build"
mkdir -p "$work/build/usr/local/cargo/bin"
install -m 755 "$program" "$work/build/usr/local/cargo/ferry"
cat >"$work/build/usr/local/cargo/bin/cargo" <<'SH'
#!/bin/sh
set -e
[ "$*" = "build --release --locked --features isal" ] || { echo "not what is expected: cargo $*" >&2; exit 1; }
# What cargo would read must be there.
for file in Cargo.toml Cargo.lock cli/src/main.rs proto/ferry/v1/node.proto node/isal/Cargo.toml tests/Cargo.toml docs/failures.md; do
  [ -f "$file" ] || { echo "the build has no $file" >&2; exit 1; }
done
for file in .git README.md deploy; do
  [ ! -e "$file" ] || { echo "the build is given $file" >&2; exit 1; }
done
[ "$(ls docs)" = failures.md ] || { echo "the build is given more of docs than it reads" >&2; exit 1; }
install -D /usr/local/cargo/ferry target/release/ferry
SH
chmod 755 "$work/build/usr/local/cargo/bin/cargo"
cp /etc/resolv.conf "$work/build/etc/resolv.conf"
base build "$work/build"

# To run in, as distroless/cc is made: packages unpacked, no shell and no package manager.
inside "$work/build" apt-get update -q >"$work/log" 2>&1
inside "$work/build" sh -c 'mkdir /fetched && cd /fetched && apt-get download -q base-files libc6 libgcc-s1 libstdc++6 netbase tzdata' \
  >>"$work/log" 2>&1 || { cat "$work/log"; exit 2; }
mkdir -p "$work/runtime"
for package in "$work"/build/fetched/*.deb; do dpkg-deb --extract "$package" "$work/runtime"; done
mkdir -p "$work/runtime/etc/ssl/certs" "$work/runtime/tmp" "$work/runtime/home/nonroot"
chmod 1777 "$work/runtime/tmp"
cp "$work/build/etc/ssl/certs/ca-certificates.crt" "$work/runtime/etc/ssl/certs/"
echo "nonroot:x:$user:$user:nonroot:/home/nonroot:/sbin/nologin" >"$work/runtime/etc/passwd"
echo "nonroot:x:$user:" >"$work/runtime/etc/group"
# Programs that come with the C library are not in distroless.
rm -rf "$work"/runtime/{bin,sbin,usr/bin,usr/sbin,usr/share/{doc,man,lintian}}
base runtime "$work/runtime"
rm -rf "$work/build" "$work/runtime"

store bud --quiet --isolation chroot --format docker --build-arg BUILD_IMAGE=localhost/build --build-arg RUNTIME_IMAGE=localhost/runtime \
  --build-arg VERSION=1.2.3 --ignorefile deploy/docker/Dockerfile.dockerignore --file deploy/docker/Dockerfile --tag localhost/ferry . \
  >"$work/log" 2>&1 || { cat "$work/log"; echo "tests/deploy/image.sh: the Dockerfile cannot be built"; exit 1; }

container=$(store from localhost/ferry)
root=$(store mount "$container")
config=$(store inspect --type image localhost/ferry | jq '.Docker.config')
# says KEY VALUE: what the image says of how it is run.
says() {
  local told
  told=$(jq --compact-output "$1" <<<"$config")
  [ "$told" = "$2" ] || fail "$1 is $told, not $2"
}
says .User "\"$user:$user\""
says .Entrypoint '["/usr/local/bin/ferry"]'
says .WorkingDir '"/var/lib/ferry"'
says '.ExposedPorts | keys' '["7400/tcp","7480/tcp","7481/tcp"]'
says '.Labels["org.opencontainers.image.version"]' '"1.2.3"'
says '.Labels["org.opencontainers.image.base.name"]' '"localhost/runtime"'

# What was added to the base, and nothing else.
for file in "usr/local/bin/ferry 755 0:0" "usr/lib/libisal.so.2 644 0:0" "var/lib/ferry 755 $user:$user"; do
  read -r path expected <<<"$file"
  [ "$(stat --format='%a %u:%g' "$root/$path")" = "$expected" ] || fail "$path is $(stat --format='%a %u:%g' "$root/$path"), not $expected"
done
shells=$(find "$root" -xdev -type f -perm /111 -path '*bin/*' ! -path "$root/usr/local/bin/ferry")
[ -z "$shells" ] || fail "other programs are in it: $shells"
marked=$(find "$root" -xdev -type f -perm /6000)
[ -z "$marked" ] || fail "files that give rights to whoever runs them: $marked"
writable=$(find "$root" -xdev ! -type l \( -user $user -o -perm -o=w \) ! -path "$root/tmp" ! -path "$root/var/lib/ferry" ! -path "$root/var/tmp" ! -path "$root/run/lock" ! -path "$root/var/lock" ! -path "$root/home/nonroot*")
[ -z "$writable" ] || fail "it may write to: $writable"
for name in Cargo.toml .git usr/local/cargo src out; do [ ! -e "$root/$name" ] || fail "the build's $name is in it"; done

# Libraries: ISA-L, since the feature is on, and beside it those that every program has. Each must be found in the image.
needed=$(readelf --dynamic "$root/usr/local/bin/ferry" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort)
grep -qx 'libisal.so.2' <<<"$needed" || fail "the program was built without the feature isal"
others=$(grep -vxE 'libisal\.so\.2|libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux-.*' <<<"$needed" || true)
[ -z "$others" ] || fail "it needs libraries that nobody thought of: $others"
loader=$(readelf --program-headers "$root/usr/local/bin/ferry" | sed -n 's/.*program interpreter: \(.*\)\]/\1/p')
unfound=$(chroot --userspec=$user:$user "$root" "$loader" --list /usr/local/bin/ferry | grep 'not found' || true)
[ -z "$unfound" ] || fail "in the image there is no: $unfound"

# As Kubernetes runs it: as nobody, files of the image read-only, a volume for the state and one for scratch files.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/pod" <<'SH'
set -e
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
mount -t tmpfs -o "uid=$2,gid=$2,mode=755" none "$1/var/lib/ferry"
mount -t tmpfs -o "uid=$2,gid=$2,mode=755" none "$1/tmp"
! touch "$1/etc/written" 2>/dev/null || { echo "the root is not read-only" >&2; exit 1; }
into=$(command -v chroot)
run() { exec env -i HOME=/home/nonroot "$into" --userspec="$2:$2" "$1" /usr/local/bin/ferry "${@:3}"; }
(run "$1" "$2" --version)
run "$1" "$2" coordinator --store sqlite:/var/lib/ferry/ferry.db --tls /var/lib/ferry/tls --grpc 127.0.0.1:0 --http "127.0.0.1:$3" &
pod=$!
for _ in $(seq 100); do
  told=$(curl --silent --insecure "https://127.0.0.1:$3/readyz" || true)
  [ "$told" = ready ] && break
  sleep 0.2
done
kill -TERM "$pod"
wait "$pod"
[ "$told" = ready ] || { echo "the coordinator was not ready" >&2; exit 1; }
[ "$(stat --format=%u "$1/var/lib/ferry/ferry.db")" = "$2" ]
SH
unshare --mount --propagation private bash "$work/pod" "$root" $user "$port" >"$work/log" 2>&1 || { cat "$work/log"; fail "it does not run as a pod does"; }
grep '^ferry ' "$work/log" || fail "ferry --version says nothing"

echo "the image has $(du --summarize --bytes "$root" | cut -f1) bytes, of which ferry $(stat --format=%s "$root/usr/local/bin/ferry")"
[ "$failed" = 0 ] && echo "tests/deploy/image.sh: all is well"
exit "$failed"
