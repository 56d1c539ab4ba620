#!/usr/bin/env python3
"""Puts together a bill of materials, CycloneDX 1.6. Usage: sbom.py METADATA RUNTIME ALL CARGO_LOCK TARGET; see sbom.sh.

The same input gives the same bytes: the serial number is made of the content, the time is SOURCE_DATE_EPOCH.
"""

import datetime
import json
import os
import re
import sys
import tomllib
import uuid

# For the serial number; made up once.
NAMESPACE = uuid.UUID("3d1f1f2e-6f0f-4f43-9b55-2f6d6a0f3c11")


def listed(path):
    """(name, version) of each line such as `serde v1.0.2 (proc-macro)`."""
    with open(path, encoding="utf-8") as lines:
        return {(words[0], words[1].lstrip("v")) for words in map(str.split, lines) if len(words) > 1}


def expression(text):
    """Old manifests write `MIT/Apache-2.0`."""
    return re.sub(r"\s*/\s*", " OR ", text)


def reference(package):
    return f"{package['name']}@{package['version']}"


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def component(package, checksums, runtime):
    """A crate as CycloneDX has it."""
    key = (package["name"], package["version"])
    made = {"type": "library", "bom-ref": reference(package), "name": package["name"], "version": package["version"]}
    if package.get("description"):
        made["description"] = " ".join(package["description"].split())
    # "excluded": it builds the program, and is not in it.
    made["scope"] = "required" if key in runtime else "excluded"
    if key in checksums:
        made["hashes"] = [{"alg": "SHA-256", "content": checksums[key]}]
    if package["license"]:
        made["licenses"] = [{"expression": expression(package["license"])}]
    # A crate of this repository is in no registry, so it has no package url.
    if package["source"]:
        made["purl"] = purl(package)
        if (package.get("repository") or "").startswith("https://"):
            made["externalReferences"] = [{"type": "vcs", "url": package["repository"].strip()}]
    return made


def main():
    metadata_path, runtime_path, all_path, lock_path, target = sys.argv[1:]
    with open(metadata_path, encoding="utf-8") as text:
        metadata = json.load(text)
    with open(lock_path, "rb") as text:
        locked = tomllib.load(text)["package"]
    checksums = {(one["name"], one["version"]): one["checksum"] for one in locked if "checksum" in one}
    runtime, wanted = listed(runtime_path), listed(all_path)
    packages = {package["id"]: package for package in metadata["packages"]}
    chosen = {id: package for id, package in packages.items() if (package["name"], package["version"]) in wanted}
    missing = wanted - {(package["name"], package["version"]) for package in chosen.values()}
    if missing:
        sys.exit(f"sbom.py: cargo metadata does not tell of {sorted(missing)}")
    unverified = [reference(p) for p in chosen.values() if p["source"] and (p["name"], p["version"]) not in checksums]
    if unverified:
        sys.exit(f"sbom.py: Cargo.lock has no checksum of {sorted(unverified)}")
    program = next(package for package in chosen.values() if package["name"] == "ferry-cli")
    libraries = sorted((p for p in chosen.values() if p is not program), key=lambda p: (p["name"], p["version"]))
    needs = {}
    for node in metadata["resolve"]["nodes"]:
        if node["id"] in chosen:
            of_kind = [dep["pkg"] for dep in node["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])]
            needs[reference(packages[node["id"]])] = sorted({reference(packages[id]) for id in of_kind if id in chosen})
    time = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": "",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "application",
                "bom-ref": reference(program),
                "name": "ferry",
                "version": program["version"],
                "licenses": [{"expression": program["license"]}],
                "properties": [{"name": "ferry:target", "value": target}],
            },
        },
        "components": [component(package, checksums, runtime) for package in libraries],
        "dependencies": [{"ref": ref, "dependsOn": on} for ref, on in sorted(needs.items())],
    }
    bom["serialNumber"] = f"urn:uuid:{uuid.uuid5(NAMESPACE, json.dumps(bom, sort_keys=True))}"
    json.dump(bom, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
