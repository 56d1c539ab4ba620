#!/usr/bin/env bash
# Prints what an overlay of deploy/k8s has the kubelet run, as JSON: `tests/deploy/pods.sh ha`. The scenarios run just that as processes.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/deploy/tools.sh
. tests/deploy/tools.sh
"$kubectl" kustomize "deploy/k8s/overlays/${1:?usage: tests/deploy/pods.sh OVERLAY}" | "$python" tests/deploy/pods.py
