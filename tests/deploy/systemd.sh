#!/usr/bin/env bash
# Checks deploy/systemd without a running systemd: the units, what they let the programs do, user and folders, the examples of
# settings, the maintainer scripts, and that a package of the listed files has whatever these name. Installs what it lacks. Fails on any
# finding, and if something cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
units=deploy/systemd
# Tenths of systemd's level of exposure, 0 to 100. What is left is the network, and the host's own files, read-only.
exposure_max=15

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
missing=()
command -v systemd-analyze >/dev/null || missing+=(systemd)
command -v shellcheck >/dev/null || missing+=(shellcheck)
command -v dpkg-deb >/dev/null || missing+=(dpkg)
python3 -c 'import tomllib' 2>/dev/null || missing+=(python3)
if [ "${#missing[@]}" -gt 0 ]; then
  echo "tests/deploy/systemd.sh: installing ${missing[*]}" >&2
  as_root apt-get update -q >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" >&2
fi

folder=$(mktemp -d)
# What systemd-tmpfiles makes belongs to others.
trap 'as_root rm -rf "$folder"' EXIT
failed=0
fail() {
  echo "$*"
  failed=1
}

# Units, with a program that is there. The two keys are newer than some systems; those pass them over, as the units say.
mkdir "$folder/units"
for unit in ferry-coordinator.service ferry-node.service; do
  sed 's#^ExecStart=/usr/bin/ferry#ExecStart=/bin/true#' "$units/$unit" >"$folder/units/$unit"
done
verify() {
  local said
  said=$(SYSTEMD_LOG_COLOR=0 systemd-analyze verify --man=no "$folder"/units/*.service 2>&1 |
    grep -vE "Unknown key( name)? '(RestartSteps|RestartMaxDelaySec)'" || true)
  [ -z "$said" ] || fail "$1: $said"
}
verify "units"
for unit in ferry-coordinator.service ferry-node.service; do
  level=$(systemd-analyze security --offline=true --threshold=$exposure_max --no-pager "$folder/units/$unit" 2>/dev/null) ||
    fail "$unit: its exposure is more than $exposure_max tenths"
  grep -o 'Overall exposure.*[0-9]' <<<"$level" || fail "$unit: systemd-analyze gives no level of exposure"
done
# The drop-in with every line in force.
mkdir "$folder/units/ferry-node.service.d"
sed 's/^#\([A-Za-z]*=\)/\1/' "$units/data-folders.conf" >"$folder/units/ferry-node.service.d/data-folders.conf"
verify "data-folders.conf"

# User and folders, in a root of their own.
mkdir -p "$folder/root/etc"
as_root systemd-sysusers --root="$folder/root" "$PWD/$units/ferry.sysusers" >/dev/null 2>&1 || fail "ferry.sysusers is refused"
as_root systemd-tmpfiles --root="$folder/root" --create "$PWD/$units/ferry.tmpfiles" || fail "ferry.tmpfiles is refused"
user=$(awk -F: '$1 == "ferry" { print $3 ":" $4 }' "$folder/root/etc/passwd")
group=${user#*:}
while read -r path expected; do
  is=$(as_root stat -c '%a %u:%g' "$folder/root$path" || true)
  [ "$is" = "$expected" ] || fail "$path is $is, not $expected"
done <<LIST
/etc/ferry 755 0:0
/etc/ferry/secrets 750 0:$group
/var/lib/ferry 755 0:0
/var/lib/ferry/coordinator 700 $user
/var/lib/ferry/node 700 $user
LIST

for script in "$units"/debian/*; do
  sh -n "$script" || failed=1
  # A second run, as after a failure, must do.
  grep -q '^set -e$' "$script" || fail "$script goes on after an error"
done
shellcheck "$units"/debian/* tests/deploy/systemd.sh || failed=1

python3 - "$folder" <<'PYTHON' || failed=1
"""The examples of settings, and the package."""

import pathlib, re, shlex, subprocess, sys, tomllib

findings = []
units = pathlib.Path("deploy/systemd")
cli = pathlib.Path("cli")
crates = ["cli", "common", "coordinator", "kusto", "node"]
sources = "\n".join(p.read_text() for name in crates for p in pathlib.Path(name).glob("src/**/*.rs"))
# What others read, and what copy activities name.
FOREIGN = {"PGPASSWORD", "HTTPS_PROXY", "NO_PROXY", "FERRY_ARGS", "STORAGE_KEY"}

# As systemd reads it: a name, and a value that may stand in quotes as a whole.
setting = re.compile(r"""^#?([A-Z][A-Z0-9_]*)=("[^"]*"|'[^']*'|[^"'\s]*)$""")
for name in ["coordinator", "node"]:
    path = units / f"{name}.env"
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = setting.match(line)
        if not found and line and not line.startswith("# ") and line != "#":
            findings.append(f"{path}:{number}: neither a comment nor a setting: {line}")
        if not found:
            continue
        if not line.startswith("#"):
            findings.append(f"{path}:{number}: an example must leave everything as it is")
        variable, value = found[1], found[2].strip("\"'")
        # In a call, an attribute of clap, or the constant that such a call takes.
        if variable not in FOREIGN and not re.search(rf'(env = |env\(|var\(|var_os\(|: &str = )"{variable}"', sources):
            findings.append(f"{path}:{number}: nothing reads {variable}")
        if variable == "FERRY_ARGS":
            for flag in (word for word in shlex.split(value) if word.startswith("--")):
                if f"    {flag[2:].replace('-', '_')}: " not in (cli / "src/roles.rs").read_text():
                    findings.append(f"{path}:{number}: there is no {flag}")

# Its paths count from the folder of the program.
manifest = cli / "Cargo.toml"
package = tomllib.loads(manifest.read_text())["package"]["metadata"]["deb"]
root = pathlib.Path(sys.argv[1]) / "package"
(root / "DEBIAN").mkdir(parents=True)
for source, target, mode in package["assets"]:
    source = pathlib.Path("/bin/true") if source.startswith("target/release/") else cli / source
    target = root / target / ("ferry" if str(source) == "/bin/true" else source.name) if target.endswith("/") else root / target
    if not source.is_file():
        findings.append(f"{manifest}: {source} is not there")
        continue
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    target.chmod(int(mode, 8))
scripts = {path.name for path in (cli / package["maintainer-scripts"]).iterdir()}
if scripts != {"postinst", "prerm", "postrm"}:
    findings.append(f"{manifest}: maintainer scripts are {sorted(scripts)}")
for name in scripts:
    script = root / "DEBIAN" / name
    script.write_bytes((cli / package["maintainer-scripts"] / name).read_bytes())
    script.chmod(0o755)
fields = {
    "Package": package["name"],
    "Version": "0",
    "Architecture": "all",
    "Maintainer": package["maintainer"],
    "Depends": package["depends"].replace("$auto, ", ""),
    "Suggests": package["suggests"],
    "Section": package["section"],
    "Description": "stand-in\n " + package["extended-description"].replace("\n\n", "\n.\n").replace("\n", "\n "),
}
(root / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
built = subprocess.run(
    ["dpkg-deb", "--build", "--root-owner-group", "-Znone", str(root), f"{sys.argv[1]}/ferry.deb"],
    capture_output=True, text=True,
)
if built.returncode:
    findings.append(f"{manifest}: {built.stderr.strip()}")

# What the files say is there.
named = re.compile(r"/usr/(?:bin/ferry\b|share/(?:doc/)?ferry/[\w./-]*\w)")
texts = [*units.glob("*.service"), *units.glob("*.env"), *units.glob("*.conf"), *pathlib.Path("docs/install").glob("*.md")]
for path in texts:
    for place in set(named.findall(path.read_text())):
        if not (root / place[1:]).exists():
            findings.append(f"{path}: the package has no {place}")

# Links of its documents lead to another one, or to what only the repository has.
documents = root / "usr/share/doc/ferry"
repository = re.compile(r"(?:docs/decisions|docs/ARCHITECTURE\.md|deploy)(?:/|$)")
for path in documents.rglob("*.md"):
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        target = (path.parent / link).resolve()
        name = str(target.relative_to(documents.resolve()))
        if not target.exists() and not (repository.match(name) and pathlib.Path(name).exists()):
            findings.append(f"{path.relative_to(documents)}: the package has no {name}")

print(*findings, sep="\n", end="\n" if findings else "")
sys.exit(bool(findings))
PYTHON

[ "$failed" = 0 ] && echo "tests/deploy/systemd.sh: all is well"
exit "$failed"
