#!/usr/bin/env bash
# Installs what the bench needs into .tools/bench: AzCopy (npm), Python packages (PyPI); and rclone, igzip, ISA-L's
# library, socat and what AzCopy links, from Debian, which needs root. Compiles the receiver. Does nothing where all
# is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=.tools/bench
stamp="$tools/installed-1"
mkdir -p "$tools/bin"

if [ ! -x "$tools/receiver" ] || [ tests/bench/receiver/main.rs -nt "$tools/receiver" ]; then
  rustc -O --edition 2024 -o "$tools/receiver" tests/bench/receiver/main.rs
fi
[ -f "$stamp" ] && exit 0

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
packages=(rclone isal libisal-dev libsecret-1-0 socat iproute2)
command -v node >/dev/null && command -v npm >/dev/null || packages+=(nodejs npm)
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  echo "tests/bench/install.sh: installing ${missing[*]}" >&2
  as_root apt-get update -q >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq "${missing[@]}" >&2
fi

echo "tests/bench/install.sh: AzCopy from npm" >&2
npm install --prefix "$tools/npm" --no-audit --no-fund --loglevel=error @azure-tools/azcopy-linux@10.32.2 >&2
azcopy=node_modules/@azure-tools/azcopy-linux/dist/bin/azcopy_linux_amd64
chmod +x "$tools/npm/$azcopy"
ln -sf "../npm/$azcopy" "$tools/bin/azcopy"
"$tools/bin/azcopy" --version >&2

echo "tests/bench/install.sh: Python packages from PyPI" >&2
[ -x "$tools/venv/bin/python" ] || python3 -m venv "$tools/venv"
# azure-kusto-ingest decides which azure-storage-blob there is.
"$tools/venv/bin/pip" install -q --disable-pip-version-check azure-kusto-ingest==6.0.4 azure-storage-blob isal==1.9.1 \
  pyarrow==26.0.1 polars==2.1.0 numpy==2.4.6 >&2
touch "$stamp"
