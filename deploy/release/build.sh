#!/usr/bin/env bash
# Makes a release archive: the same bytes from the same commit, whatever folder it is built in. Usage: deploy/release/build.sh [FOLDER]
#
# FOLDER (default: target/release-archive) gets ferry-VERSION-TARGET.tar.gz, its SBOM and both their SHA-256. With FERRY_BINARY=FILE that program is
# packed instead of one that is built here, which is for trying this out. SOURCE_DATE_EPOCH: the time that files get, by default the last
# commit's; needed where there is no git.
set -euo pipefail
umask 022
folder=$(realpath --canonicalize-missing "${1:-$(dirname "$0")/../../target/release-archive}")
cd "$(dirname "$0")/../.."
here=$PWD

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
target=$(rustc --version --verbose | sed -n 's/^host: //p')
version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' Cargo.toml)
if [ -z "$target" ] || [ -z "$version" ]; then
  echo "build.sh: no version in Cargo.toml, or no target of rustc" >&2
  exit 2
fi

if [ -n "${FERRY_BINARY:-}" ]; then
  program=$FERRY_BINARY
else
  # Where things were compiled is in messages of panics and in what C puts into its asserts. All of it is given the same name everywhere.
  cargo_home=${CARGO_HOME:-$HOME/.cargo}
  sysroot=$(rustc --print sysroot)
  renamed=("$here=/ferry" "$cargo_home=/cargo" "$sysroot=/rust")
  # By the unit separator, since a folder's name may have blanks.
  CARGO_ENCODED_RUSTFLAGS=$(printf -- '--remap-path-prefix=%s\x1f' "${renamed[@]}")
  export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}
  case "$here$cargo_home" in
  # Flags of C compilers are split at blanks.
  *[[:space:]]*) echo "build.sh: no blanks in $here or $cargo_home" >&2; exit 2 ;;
  esac
  export CFLAGS="-ffile-prefix-map=$here=/ferry -ffile-prefix-map=$cargo_home=/cargo"
  # What a profile or the environment of whoever builds would change.
  unset RUSTFLAGS CARGO_INCREMENTAL CARGO_BUILD_RUSTFLAGS CARGO_PROFILE_RELEASE_DEBUG
  built=$here/target/for-release
  cargo build --release --locked -p ferry-cli --target "$target" --target-dir "$built" >&2
  program=$built/$target/release/ferry
fi

name=ferry-$version-$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/$name
mkdir -p "$root"
install -m 755 "$program" "$root/ferry"
install -m 644 README.md "$root/"
for licence in LICENSE* COPYING* NOTICE*; do
  if [ -f "$licence" ]; then install -m 644 "$licence" "$root/"; fi
done
# What is under git, or, where there is no git, what is there: never what happens to lie about in a folder.
listed() {
  if git rev-parse --git-dir >/dev/null 2>&1; then git ls-files -z -- "$@"; else find "$@" -type f -print0; fi
}
listed docs deploy | while IFS= read -r -d '' file; do
  mode=644
  if [ -x "$file" ]; then mode=755; fi
  install -D -m "$mode" "$file" "$root/$file"
done
# Whatever this ferry has of these. One that lacks a command answers with 2.
has() { "$root/ferry" "$1" --help >/dev/null 2>&1; }
if has completions; then
  for shell in bash zsh fish; do
    mkdir -p "$root/completions"
    "$root/ferry" completions "$shell" >"$root/completions/ferry.$shell"
  done
fi
if has man; then
  mkdir -p "$root/man/man1"
  "$root/ferry" man "$root/man/man1" >/dev/null
fi
deploy/release/sbom.sh "$target" >"$root/ferry.cdx.json"

# By name, of nobody, at one time; no access times, no numbers of anything. gzip -n leaves out its own name and time.
mkdir -p "$folder"
tar --create --directory="$work" --format=ustar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
  --mode='u+rw,go+r-w,a+X' "$name" | gzip -n -9 >"$folder/$name.tar.gz"
install -m 644 "$root/ferry.cdx.json" "$folder/$name.cdx.json"
cd "$folder"
sha256sum "$name.tar.gz" "$name.cdx.json" | tee "$name.sha256"
