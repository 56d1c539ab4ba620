#!/usr/bin/env bash
# Makes the release archive of the last commit in two folders, with names of different length, and compares. Usage: deploy/release/twice.sh
# [FOLDER]; FOLDER gets the archive when both are the same. FERRY_BINARY as build.sh has it: then all but the program is tried.
set -euo pipefail
folder=$(realpath --canonicalize-missing "${1:-$(dirname "$0")/../../target/release-archive}")
cd "$(dirname "$0")/../.."
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for place in here/a "somewhere-else/with-a-longer-name/b"; do
  mkdir -p "$work/$place"
  git archive HEAD | tar --extract --directory="$work/$place"
  (cd "$work/$place" && umask 077 && bash deploy/release/build.sh "$work/$place/out" >/dev/null)
  # Another time, should one find its way in; and room for the second.
  rm -rf "$work/$place/target"
  sleep 1
done
cd "$work"
for file in here/a/out/*; do
  other=somewhere-else/with-a-longer-name/b/out/${file##*/}
  if ! cmp "$file" "$other"; then
    echo "twice.sh: ${file##*/} differs" >&2
    case $file in
    *.tar.gz) diff <(tar -tvzf "$file") <(tar -tvzf "$other") >&2 || true ;;
    esac
    exit 1
  fi
done
mkdir -p "$folder"
cp here/a/out/* "$folder"
cat "$folder"/*.sha256
echo "twice.sh: the same, byte for byte" >&2
