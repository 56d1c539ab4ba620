#!/usr/bin/env python3
"""Reads rendered Kubernetes objects, and prints as JSON what a kubelet makes of them: workloads with the commands, variables, probes and
mounts of their pods, and services with the ports behind them.

Names of ports become numbers, and what is left out becomes what Kubernetes takes for it. What a config map says is filled in; secrets and
what a pod alone knows, such as its name, stay references. Anything that this program does not understand ends it.
"""

import json
import sys

import yaml

# Source: Kubernetes, API reference, Probe.
PROBE = {"periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3, "initialDelaySeconds": 0}
# Source: Kubernetes, API reference, DeploymentSpec: what a rollout may have too many of, and may lack.
SURGE, LACK = "25%", "25%"
# Keys of a container that this program turns into something, and those that say nothing about how a process runs.
READ = {"name", "args", "env", "ports", "volumeMounts", "lifecycle", "startupProbe", "livenessProbe", "readinessProbe"}
PASSED_OVER = {"image", "imagePullPolicy", "resources", "securityContext"}


def fail(what):
    sys.exit(f"pods.py: {what}")


def share(value, replicas, up):
    """A number of pods, or a share of them: rounded up where there may be more, down where some may lack."""
    if isinstance(value, int):
        return value
    part = replicas * int(value.rstrip("%"))
    return -(-part // 100) if up else part // 100


class Pods:
    def __init__(self, objects):
        self.objects = objects

    def of(self, *kinds):
        return [item for item in self.objects if item["kind"] in kinds]

    def config(self, name, key):
        for item in self.of("ConfigMap"):
            if item["metadata"]["name"] == name:
                return item["data"][key]
        return fail(f"there is no config map {name}")

    def variable(self, variable):
        match variable:
            case {"name": name, "value": value}:
                return {"name": name, "value": value}
            case {"name": name, "valueFrom": {"configMapKeyRef": {"name": config, "key": key}}}:
                return {"name": name, "value": self.config(config, key)}
            case {"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}:
                return {"name": name, "field": field}
            case {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}:
                return {"name": name, "secret": secret, "key": key}
        return fail(f"nothing is known of a variable such as {variable}")

    def workload(self, item):
        spec = item["spec"]
        pod = spec["template"]["spec"]
        if len(pod["containers"]) != 1 or pod.get("initContainers"):
            fail(f"{item['metadata']['name']} has not one container alone")
        (container,) = pod["containers"]
        unknown = set(container) - READ - PASSED_OVER
        if unknown:
            fail(f"{item['metadata']['name']}: nothing is known of {sorted(unknown)}")
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        strategy = spec.get("strategy", {}).get("rollingUpdate", {})
        return {
            "kind": item["kind"],
            "name": item["metadata"]["name"],
            "labels": spec["template"]["metadata"]["labels"],
            "namespace": item["metadata"]["namespace"],
            "replicas": spec["replicas"],
            "surgeMax": share(strategy.get("maxSurge", SURGE), spec["replicas"], True),
            "lackMax": share(strategy.get("maxUnavailable", LACK), spec["replicas"], False),
            "graceSeconds": pod.get("terminationGracePeriodSeconds", 30),
            "lifecycle": container.get("lifecycle", {}),
            "args": container["args"],
            "environment": [self.variable(variable) for variable in container.get("env", [])],
            "ports": ports,
            "probes": {kind: self.probe(container[f"{kind}Probe"], ports) for kind in ("startup", "liveness", "readiness") if f"{kind}Probe" in container},
            "mounts": [self.mount(mount, pod, spec) for mount in container.get("volumeMounts", [])],
        }

    def probe(self, probe, ports):
        if "httpGet" not in probe:
            fail(f"nothing is known of a probe such as {probe}")
        get = probe["httpGet"]
        port = get["port"] if isinstance(get["port"], int) else ports[get["port"]]
        timing = {key: probe.get(key, default) for key, default in PROBE.items()}
        return {"scheme": get.get("scheme", "HTTP").lower(), "path": get["path"], "port": port, **timing}

    def mount(self, mount, pod, spec):
        volumes = [volume for volume in pod.get("volumes", []) if volume["name"] == mount["name"]]
        said = {"path": mount["mountPath"], "isReadOnly": mount.get("readOnly", False)}
        match volumes:
            case [{"secret": secret}]:
                items = {one["key"]: one["path"] for one in secret["items"]} if "items" in secret else None
                return said | {"secret": secret["secretName"], "items": items, "isOptional": secret.get("optional", False)}
            case [{"persistentVolumeClaim": claim}]:
                return said | {"claim": claim["claimName"]}
            case [{"emptyDir": _}]:
                return said | {"isEmpty": True}
            case [] if any(claim["metadata"]["name"] == mount["name"] for claim in spec.get("volumeClaimTemplates", [])):
                return said | {"claim": mount["name"]}
        return fail(f"nothing is known of the volume {mount['name']}")

    def service(self, item, workloads):
        spec = item["spec"]
        behind = [w for w in workloads if spec["selector"].items() <= w["labels"].items()]
        if len(behind) != 1:
            fail(f"service {item['metadata']['name']} has {len(behind)} workloads behind it")
        ports = {}
        for port in spec["ports"]:
            target = port.get("targetPort", port["port"])
            ports[port["port"]] = target if isinstance(target, int) else behind[0]["ports"][target]
        return {"name": item["metadata"]["name"], "workload": behind[0]["name"], "ports": ports}


def main():
    pods = Pods([item for item in yaml.safe_load_all(sys.stdin) if item])
    workloads = [pods.workload(item) for item in pods.of("Deployment", "StatefulSet")]
    services = [pods.service(item, workloads) for item in pods.of("Service")]
    json.dump({"workloads": workloads, "services": services}, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
