#!/usr/bin/env python3
"""Holds rendered Kubernetes objects against the schemas of several server versions.

Usage: schemas.py VERSION[,VERSION...] RENDERED.yaml...

A key that a schema lacks is a finding. Objects of KEDA and of the Prometheus operator are held against models made from their
own definitions. Prints every finding and exits with 1 if there is one.
"""

import functools
import json
import sys

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from pydantic import ValidationError

MODELS = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus_operator.PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): prometheus_operator.PrometheusRule,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): prometheus_operator.ServiceMonitor,
}


def check_built_in(item, version):
    """Findings against the schema of a server version."""
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except jsonschema.ValidationError as wrong:
        yield f"{'.'.join(map(str, wrong.path))}: {wrong.message}"
    except kubernetes_validate.SchemaNotFoundError as unknown:
        yield unknown.message


def check_model(item, model):
    """Findings against a model. The models pass over keys that they do not know: what is gone afterwards was unknown."""
    try:
        kept = model.model_validate(item).model_dump(by_alias=True, exclude_unset=True, mode="json")
    except ValidationError as wrong:
        for error in wrong.errors():
            yield f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
        return
    yield from lost(item, kept, "")


def lost(given, kept, place):
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                yield f"{place}{key}: unknown key"
            else:
                yield from lost(value, kept[key], f"{place}{key}.")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for at, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{place}{at}.")
    elif given != kept:
        yield f"{place[:-1]}: {given!r} is read as {kept!r}"


def main():
    versions, files = sys.argv[1].split(","), sys.argv[2:]
    if not files:
        sys.exit("schemas.py: no rendered file")
    there = {kubernetes_validate.utils.major_minor(version) for version in kubernetes_validate.utils.all_versions()}
    missing = [version for version in versions if version not in there]
    if missing:
        sys.exit(f"schemas.py: no schemas of {', '.join(missing)}")
    # The definitions of a version are large, and would be read anew for each object.
    read = kubernetes_validate.utils.schema_contents
    kubernetes_validate.utils.schema_contents = functools.lru_cache(maxsize=None)(read)
    # The same object comes with many renderings: it is looked at once.
    unique = {}
    for file in files:
        with open(file, encoding="utf-8") as text:
            for item in yaml.safe_load_all(text):
                if item:
                    unique.setdefault(json.dumps(item, sort_keys=True), (file, item))
    findings = 0
    for file, item in unique.values():
        model = MODELS.get((item["apiVersion"], item["kind"]))
        if model:
            wrong = [("", what) for what in check_model(item, model)]
        else:
            wrong = [(f" against {version}", what) for version in versions for what in check_built_in(item, version)]
        for against, what in wrong:
            print(f"{file}: {item['kind']} {item['metadata']['name']}{against}: {what}")
            findings += 1
    print(f"schemas: {len(unique)} different objects against {', '.join(versions)}, {findings} findings")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
