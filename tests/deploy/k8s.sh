#!/usr/bin/env bash
# Renders every overlay of deploy/k8s with every set of components, and checks what comes out: against the schemas of several versions of
# Kubernetes, of KEDA and of the Prometheus operator (schemas.py), and what the objects say of each other (references.py). Needs no cluster.
# Installs what it lacks (tools.sh). Fails on any finding, and if something cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."
versions=1.29,1.31,1.33,1.37
# shellcheck source=tests/deploy/tools.sh
. tests/deploy/tools.sh

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

"$python" tests/deploy/schemas.py "$versions" "$folder"/*.yaml || failed=1
"$python" tests/deploy/references.py deploy/k8s/README.md "$folder"/*.yaml || failed=1
[ "$failed" = 0 ] && echo "tests/deploy/k8s.sh: all is well"
exit "$failed"
