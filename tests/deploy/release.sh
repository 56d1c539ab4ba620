#!/usr/bin/env bash
# Checks deploy/release without compiling anything: the bill of materials against CycloneDX' own schema and against Cargo.lock, and that the
# archive of a stand-in for ferry holds what it should, in the same bytes from two folders. That the program itself comes out the same is tried by
# `just release`, which compiles it twice. Installs what it lacks below .tools/, or below FERRY_TOOLS. Fails on any finding.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=${FERRY_TOOLS:-.tools}/release
stamp="$tools/installed-1"
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
missing=()
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
command -v shellcheck >/dev/null || missing+=(shellcheck)
if [ "${#missing[@]}" -gt 0 ]; then
  echo "tests/deploy/release.sh: installing ${missing[*]}" >&2
  as_root apt-get update -q >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" >&2
fi
if [ ! -f "$stamp" ]; then
  mkdir -p "$tools"
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install -q --disable-pip-version-check 'cyclonedx-python-lib[json-validation]==11.12.0' >&2
  touch "$stamp"
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0
shellcheck deploy/release/*.sh tests/deploy/*.sh || failed=1

deploy/release/sbom.sh >"$folder/bom"
deploy/release/sbom.sh | cmp - "$folder/bom" || failed=1
"$tools/venv/bin/python" - "$folder/bom" <<'PYTHON' || failed=1
"""The bill: by the schema, complete, and of nothing else."""

import json
import sys
import tomllib

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = open(sys.argv[1], encoding="utf-8").read()
validator = JsonStrictValidator(SchemaVersion.V1_6)
findings = [str(error.data) for error in [validator.validate_str(text)] if error]
bom = json.loads(text)
# The check can fail.
broken = json.dumps(bom | {"components": [{"type": "no such type"}]})
if not validator.validate_str(broken):
    findings.append("a bill that is wrong passes the schema")
components = bom["components"]
refs = [one["bom-ref"] for one in components] + [bom["metadata"]["component"]["bom-ref"]]
if len(set(refs)) != len(refs):
    findings.append("a component is there twice")
for one in bom["dependencies"]:
    for ref in [one["ref"], *one["dependsOn"]]:
        if ref not in refs:
            findings.append(f"nothing is known of {ref}, which is named as a dependency")
if {one["ref"] for one in bom["dependencies"]} != set(refs):
    findings.append("the dependencies of some components are not told")
with open("Cargo.lock", "rb") as lock:
    locked = {f"{one['name']}@{one['version']}": one for one in tomllib.load(lock)["package"]}
for one in components:
    checksum = locked[one["bom-ref"]].get("checksum")
    if [checksum] != [found["content"] for found in one.get("hashes", [{"content": None}])]:
        findings.append(f"{one['bom-ref']} has another checksum in Cargo.lock")
    if checksum and "purl" not in one:
        findings.append(f"{one['bom-ref']} has no package url")
    if not one.get("licenses"):
        findings.append(f"{one['bom-ref']} has no licence")
required = {one["name"] for one in components if one["scope"] == "required"}
for name in ("tokio", "rustls", "libsqlite3-sys", "ferry-node"):
    if name not in required:
        findings.append(f"{name} is not said to be in the program")
for name in ("ferry-tests", "syn", "proptest"):
    if name in required:
        findings.append(f"{name} is said to be in the program")
print(*findings, sep="\n", end="\n" if findings else "")
print(f"bill of materials: {len(components)} components, {len(required)} of them in the program, {len(findings)} findings")
sys.exit(bool(findings))
PYTHON

# Stands in for the program, as one that has completions and manual pages.
cat >"$folder/ferry" <<'SH'
#!/bin/sh
case "$*" in
"completions --help" | "man --help") ;;
"completions "*) echo "complete $2" ;;
"man "*) echo ".TH ferry" >"$2/ferry.1" ;;
*) exit 2 ;;
esac
SH
chmod 755 "$folder/ferry"
FERRY_BINARY=$folder/ferry bash deploy/release/twice.sh "$folder/out" >/dev/null || failed=1
(cd "$folder/out" && sha256sum --check --quiet ./*.sha256) || failed=1
archive=$(echo "$folder"/out/ferry-*.tar.gz)
tar -tzf "$archive" | sed 's#^[^/]*/##' | sort >"$folder/names"
for name in ferry README.md LICENSE-MIT LICENSE-APACHE ferry.cdx.json docs/install/one-host.md docs/failures.md deploy/systemd/ferry-node.service deploy/k8s/base/node.yaml \
  completions/ferry.bash completions/ferry.zsh completions/ferry.fish man/man1/ferry.1; do
  grep -qx "$name" "$folder/names" || { echo "the archive has no $name"; failed=1; }
done
# Of nobody, at one time, and no more rights than it takes.
odd=$(tar -tvzf "$archive" --numeric-owner --full-time | awk -v when="$(TZ=UTC git log -1 --date=format-local:'%F %T' --format=%cd)" \
  '$2 != "0/0" || $4 " " $5 != when || $1 !~ /^(drwxr-xr-x|-rwxr-xr-x|-rw-r--r--)$/')
[ -z "$odd" ] || { echo "odd entries in the archive: $odd"; failed=1; }
[ "$failed" = 0 ] && echo "tests/deploy/release.sh: all is well"
exit "$failed"
