#!/usr/bin/env python3
"""Checks what stands between rendered Kubernetes objects, which no schema sees.

Usage: references.py README.md RENDERED.yaml...

Each name that one object uses must be another object's, or in USER_MADE; each selector must match a pod; each port must be
there; each pod must be as restricted as the namespace asks. Prints every finding and exits with 1 if there is one.
"""

import re
import sys

import yaml

# What whoever installs makes, with its keys. None: any keys. The README must say how.
USER_MADE = {
    ("Secret", "ferry-activities"): None,
    ("Secret", "ferry-ca"): {"ca.crt"},
    ("Secret", "ferry-join"): {"token"},
    ("Secret", "ferry-metrics-token"): {"token"},
    ("Secret", "ferry-smb"): {"username", "password"},
    ("Secret", "ferry-store"): {"url"},
    ("Secret", "ferry-tls"): {"ca.crt", "ca.key", "admin-token"},
}
# Labels of pods that whoever installs brings along.
USER_LABELS = {"ferry.dev/client"}
# Labels of namespaces: one that every namespace has, one that whoever installs sets.
NAMESPACE_LABELS = {"kubernetes.io/metadata.name", "ferry.dev/client"}
CLUSTER_SCOPED = {"Namespace", "PersistentVolume"}
# Kinds that this program knows. Another one needs its references written down here first.
KNOWN = CLUSTER_SCOPED | {
    "ConfigMap",
    "Deployment",
    "HorizontalPodAutoscaler",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "PodMonitor",
    # It names no object: tests/deploy/observe.sh looks at it.
    "PrometheusRule",
    "ScaledObject",
    "Service",
    "ServiceAccount",
    "ServiceMonitor",
    "StatefulSet",
}


class Pod:
    """A pod template, and the workload that it is in."""

    def __init__(self, owner):
        self.owner = owner
        self.name = named(owner)
        template = owner["spec"]["template"]
        self.labels = template["metadata"].get("labels", {})
        self.spec = template["spec"]
        self.containers = self.spec.get("initContainers", []) + self.spec["containers"]
        self.ports = [port for container in self.containers for port in container.get("ports", [])]
        self.claim_templates = [claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])]

    def has_port(self, port, protocol="TCP"):
        """Whether a container has this port, by name or by number."""
        key = "name" if isinstance(port, str) else "containerPort"
        return any(p.get(key) == port and p.get("protocol", "TCP") == protocol for p in self.ports)


class Rendered:
    """The objects of one rendered overlay."""

    def __init__(self, file):
        with open(file, encoding="utf-8") as text:
            self.objects = [item for item in yaml.safe_load_all(text) if item]
        self.findings = []
        self.used = set()
        self.by_name = {}
        for item in self.objects:
            key = (item["kind"], item["metadata"]["name"])
            if key in self.by_name:
                self.find(f"{named(item)} is there twice")
            self.by_name[key] = item
        self.pods = [Pod(item) for item in self.of("Deployment", "StatefulSet")]

    def of(self, *kinds):
        return [item for item in self.objects if item["kind"] in kinds]

    def find(self, what):
        self.findings.append(what)

    def refer(self, user, kind, name, key=None):
        """`user` names an object, and perhaps a key of it."""
        found = self.by_name.get((kind, name))
        if found is not None:
            if key is not None and key not in found.get("data", {}):
                self.find(f"{user}: {kind} {name} has no key {key}")
        elif (kind, name) in USER_MADE:
            self.used.add((kind, name))
            keys = USER_MADE[kind, name]
            if key is not None and keys is not None and key not in keys:
                self.find(f"{user}: {kind} {name} is not made with a key {key}")
        else:
            self.find(f"{user}: there is no {kind} {name}")

    def selected(self, user, selector):
        """The pods that a selector matches. None at all is a finding."""
        pods = [pod for pod in self.pods if self.matches(user, selector, pod.labels)]
        if not pods:
            self.find(f"{user}: no pod has the labels {selector.get('matchLabels')}")
        return pods

    def matches(self, user, selector, labels):
        if set(selector) - {"matchLabels"}:
            self.find(f"{user}: the selector has {sorted(selector)}, of which only matchLabels is understood")
        return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())

    def check(self):
        self.check_objects()
        for pod in self.pods:
            self.check_workload(pod)
            self.check_restricted(pod)
            self.check_volumes(pod)
            for container in pod.containers:
                self.check_container(pod, container)
        self.check_services()
        self.check_policies()
        self.check_scaling()
        self.check_claims()
        self.check_monitors()

    def check_objects(self):
        spaces = self.of("Namespace")
        if len(spaces) != 1:
            self.find(f"there are {len(spaces)} namespaces instead of one")
            return
        space = spaces[0]["metadata"]["name"]
        if spaces[0]["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            self.find("the namespace does not enforce restricted pods")
        for item in self.objects:
            if item["kind"] == "Secret":
                self.find(f"{named(item)}: no secret belongs into a repository")
            elif item["kind"] not in KNOWN:
                self.find(f"{named(item)}: nothing is known of the kind {item['kind']}")
            wanted = None if item["kind"] in CLUSTER_SCOPED else space
            if item["metadata"].get("namespace") != wanted:
                self.find(f"{named(item)} is in namespace {item['metadata'].get('namespace')} instead of {wanted}")

    def check_workload(self, pod):
        if not self.matches(pod.name, pod.owner["spec"]["selector"], pod.labels):
            self.find(f"{pod.name}: its selector does not match its own pods")
        others = [p.name for p in self.pods if p is not pod and self.matches(pod.name, pod.owner["spec"]["selector"], p.labels)]
        if others:
            self.find(f"{pod.name}: its selector matches pods of {', '.join(others)}")
        for label in ("name", "component", "part-of"):
            for where, labels in (("it", pod.owner["metadata"].get("labels", {})), ("its pod", pod.labels)):
                if f"app.kubernetes.io/{label}" not in labels:
                    self.find(f"{pod.name}: {where} has no label app.kubernetes.io/{label}")
        for spread in pod.spec.get("topologySpreadConstraints", []):
            if not self.matches(pod.name, spread["labelSelector"], pod.labels):
                self.find(f"{pod.name}: it spreads other pods than its own")
        if "serviceName" in pod.owner["spec"]:
            self.refer(pod.name, "Service", pod.owner["spec"]["serviceName"])
        self.refer(pod.name, "ServiceAccount", pod.spec.get("serviceAccountName", "default"))
        account = self.by_name.get(("ServiceAccount", pod.spec.get("serviceAccountName")), {})
        for where, token in (("it", pod.spec), ("its service account", account)):
            if token.get("automountServiceAccountToken") is not False:
                self.find(f"{pod.name}: {where} mounts a token of the Kubernetes API")

    def check_restricted(self, pod):
        """Source: Kubernetes, Pod Security Standards, restricted; and a root file system that is read-only."""
        security = pod.spec.get("securityContext", {})
        expected = {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
        for key, value in expected.items():
            if security.get(key) != value:
                self.find(f"{pod.name}: {key} of its pod is {security.get(key)} instead of {value}")
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key):
                self.find(f"{pod.name}: {key}")
        for container in pod.containers:
            who = f"{pod.name}, container {container['name']}"
            security = container.get("securityContext", {})
            expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            for key, value in expected.items():
                if security.get(key) != value:
                    self.find(f"{who}: {key} is {security.get(key)} instead of {value}")
            if set(security) - set(expected):
                self.find(f"{who}: its security context says more than is understood: {sorted(set(security) - set(expected))}")
            resources = container.get("resources", {})
            if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
                self.find(f"{who}: requests of CPU and memory, or a limit of memory, are missing")

    def check_volumes(self, pod):
        mounted = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", [])}
        there = list(pod.claim_templates)
        for volume in pod.spec.get("volumes", []):
            there.append(volume["name"])
            match volume:
                case {"secret": secret}:
                    for item in secret.get("items", [{"key": None}]):
                        self.refer(pod.name, "Secret", secret["secretName"], item["key"])
                    # World-readable by default.
                    if secret.get("defaultMode") != 0o440:
                        self.find(f"{pod.name}: secret {secret['secretName']} is mounted with mode {secret.get('defaultMode')}")
                case {"configMap": config}:
                    self.refer(pod.name, "ConfigMap", config["name"])
                case {"persistentVolumeClaim": claim}:
                    self.refer(pod.name, "PersistentVolumeClaim", claim["claimName"])
                case {"emptyDir": empty}:
                    if "sizeLimit" not in empty:
                        self.find(f"{pod.name}: volume {volume['name']} may fill the host")
                case _:
                    self.find(f"{pod.name}: nothing is known of a volume such as {volume['name']}")
        for name in sorted(mounted - set(there)):
            self.find(f"{pod.name}: a volume {name} is mounted and not there")
        for name in sorted(set(there) - mounted):
            self.find(f"{pod.name}: a volume {name} is there and not mounted")
        for name in sorted({name for name in there if there.count(name) > 1}):
            self.find(f"{pod.name}: there are two volumes {name}")

    def check_container(self, pod, container):
        who = f"{pod.name}, container {container['name']}"
        if not re.fullmatch(r".+:[^:/]+", container["image"]) or container["image"].endswith(":latest"):
            self.find(f"{who}: the image {container['image']} has no fixed tag")
        # A variable can be used after it was defined, not before.
        defined = set()
        for variable in container.get("env", []):
            self.check_expansion(f"{who}, {variable['name']}", variable.get("value", ""), defined)
            if variable["name"] in defined:
                self.find(f"{who}: {variable['name']} is set twice")
            defined.add(variable["name"])
            match variable.get("valueFrom"):
                case None | {"fieldRef": _}:
                    pass
                case {"secretKeyRef": {"name": name, "key": key}}:
                    self.refer(who, "Secret", name, key)
                case {"configMapKeyRef": {"name": name, "key": key}}:
                    self.refer(who, "ConfigMap", name, key)
                case other:
                    self.find(f"{who}: nothing is known of {other}")
        for source in container.get("envFrom", []):
            self.find(f"{who}: nothing is known of envFrom {source}")
        for argument in container.get("args", []):
            self.check_expansion(f"{who}, {argument}", argument, defined)
        places = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        for place in sorted({place for place in places if places.count(place) > 1}):
            self.find(f"{who}: two volumes are mounted at {place}")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if port is not None and not pod.has_port(port):
                self.find(f"{who}: its {probe} asks port {port}, which it does not have")
        for probe in ("livenessProbe", "readinessProbe"):
            if probe not in container:
                self.find(f"{who}: it has no {probe}")
        # Two places say which port: the arguments and the list of ports.
        for argument in container.get("args", []):
            listening = re.fullmatch(r"--(?:grpc|http|health)=.*:(\d+)", argument)
            if listening and not pod.has_port(int(listening[1])):
                self.find(f"{who}: it has no port of {argument}")

    def check_expansion(self, who, text, defined):
        for name in re.findall(r"(?<!\$)\$\(([^)]*)\)", text):
            if name not in defined:
                self.find(f"{who}: $({name}) is not defined before it")

    def check_services(self):
        for service in self.of("Service"):
            for pod in self.selected(named(service), {"matchLabels": service["spec"]["selector"]}):
                for port in service["spec"]["ports"]:
                    if not pod.has_port(port.get("targetPort", port["port"]), port.get("protocol", "TCP")):
                        self.find(f"{named(service)}: {pod.name} has no port {port.get('targetPort', port['port'])}")
        for budget in self.of("PodDisruptionBudget"):
            self.selected(named(budget), budget["spec"]["selector"])
        for pod in self.pods:
            for argument in (argument for container in pod.containers for argument in container.get("args", [])):
                dialled = re.fullmatch(r"--coordinator=https://([^:/]+):(\d+)", argument)
                if dialled:
                    self.check_way(pod, dialled[1], int(dialled[2]))

    def check_way(self, pod, name, number):
        """The address that a pod dials is a service's, and the policies of both ends let it through."""
        service = self.by_name.get(("Service", name), {"spec": {"selector": {}, "ports": []}})
        ports = [port for port in service["spec"]["ports"] if port["port"] == number]
        if not ports:
            self.find(f"{pod.name}: no service answers at {name}:{number}")
        for port in ports:
            for other in self.selected(named(service), {"matchLabels": service["spec"]["selector"]}):
                for inner in other.ports:
                    if port["targetPort"] not in (inner["name"], inner["containerPort"]):
                        continue
                    if not self.lets("egress", "to", pod, other, inner["containerPort"]):
                        self.find(f"{pod.name}: no policy lets it dial {name}:{number}")
                    if not self.lets("ingress", "from", other, pod, inner["containerPort"]):
                        self.find(f"{other.name}: no policy lets {pod.name} dial it at {inner['containerPort']}")

    def lets(self, direction, end, pod, other, port):
        """Whether a policy of `pod` lets it talk with `other`."""
        for policy in self.of("NetworkPolicy"):
            who, spec = named(policy), policy["spec"]
            if pod not in self.selected(who, spec["podSelector"]):
                continue
            for rule in spec.get(direction, []):
                is_peer = not rule.get(end) or other in self.peers(who, rule[end])
                if is_peer and port in [listed["port"] for listed in rule.get("ports", [])]:
                    return True
        return False

    def check_policies(self):
        denied = set()
        for policy in self.of("NetworkPolicy"):
            who, spec = named(policy), policy["spec"]
            own = self.selected(who, spec["podSelector"])
            for direction in ("ingress", "egress"):
                if direction in spec and direction.capitalize() not in spec["policyTypes"]:
                    self.find(f"{who}: it has rules for {direction} and does not say so in policyTypes")
            if set(spec["policyTypes"]) == {"Ingress", "Egress"} and not spec.get("ingress") and not spec.get("egress"):
                denied.update(pod.name for pod in own)
            for rule in spec.get("ingress", []):
                for _ in self.peers(who, rule.get("from", [])):
                    pass
                self.check_ports(who, rule, own)
            for rule in spec.get("egress", []):
                peers = list(self.peers(who, rule.get("to", [])))
                if peers:
                    self.check_ports(who, rule, peers)
        for pod in self.pods:
            if pod.name not in denied:
                self.find(f"{pod.name}: no network policy denies what is not listed")

    def peers(self, who, listed):
        """Pods of this rendering that a rule names."""
        for peer in listed:
            match peer:
                case {"namespaceSelector": selector}:
                    if set(peer) != {"namespaceSelector"} or not set(selector.get("matchLabels", {})) <= NAMESPACE_LABELS:
                        self.find(f"{who}: nothing is known of the peer {peer}")
                    if not selector.get("matchLabels"):
                        self.find(f"{who}: a rule lets every namespace through")
                case {"podSelector": selector} if set(selector.get("matchLabels", {})) <= USER_LABELS:
                    if not selector.get("matchLabels"):
                        self.find(f"{who}: a rule lets every pod of the namespace through")
                case {"podSelector": selector}:
                    yield from self.selected(who, selector)
                case {"ipBlock": _}:
                    pass
                case _:
                    self.find(f"{who}: nothing is known of the peer {peer}")

    def check_ports(self, who, rule, pods):
        if not rule.get("ports"):
            self.find(f"{who}: a rule opens every port")
        for port in rule.get("ports", []):
            for pod in pods:
                if not pod.has_port(port["port"], port.get("protocol", "TCP")):
                    self.find(f"{who}: {pod.name} has no port {port['port']}")

    def check_scaling(self):
        scaled = []
        for scaler in self.of("HorizontalPodAutoscaler", "ScaledObject"):
            target = scaler["spec"]["scaleTargetRef"]
            key = (target.get("kind", "Deployment"), target["name"])
            scaled.append(key)
            self.refer(named(scaler), *key)
            if "replicas" in self.by_name.get(key, {"spec": {}})["spec"]:
                self.find(f"{named(scaler)}: {key[1]} has a number of replicas of its own, which each apply would set back")
        if len(scaled) != len(set(scaled)):
            self.find(f"two autoscalers pull at one number: {scaled}")
        for pod in self.pods:
            if "replicas" not in pod.owner["spec"] and (pod.owner["kind"], pod.owner["metadata"]["name"]) not in scaled:
                self.find(f"{pod.name}: neither it nor an autoscaler says how many")

    def check_claims(self):
        for volume in self.of("PersistentVolume"):
            spec = volume["spec"]
            claims = [
                claim
                for claim in self.of("PersistentVolumeClaim")
                if claim["spec"]["storageClassName"] == spec["storageClassName"]
                and set(claim["spec"]["accessModes"]) <= set(spec["accessModes"])
            ]
            if not claims:
                self.find(f"{named(volume)}: no claim can bind it")
            for claim in claims:
                if claim["spec"]["resources"]["requests"]["storage"] != spec["capacity"]["storage"]:
                    self.find(f"{named(volume)}: it is of another size than {named(claim)}")
            reference = spec.get("csi", {}).get("nodeStageSecretRef")
            if reference:
                self.refer(named(volume), "Secret", reference["name"])
        # Where files are copied from is never written to.
        for pod in self.pods:
            for volume in pod.spec.get("volumes", []):
                if "persistentVolumeClaim" in volume and not volume["persistentVolumeClaim"].get("readOnly"):
                    self.find(f"{pod.name}: it may write to {volume['name']}")

    def check_monitors(self):
        for monitor in self.of("PodMonitor"):
            for pod in self.selected(named(monitor), monitor["spec"]["selector"]):
                for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                    if not pod.has_port(endpoint["port"]):
                        self.find(f"{named(monitor)}: {pod.name} has no port {endpoint['port']}")
        for monitor in self.of("ServiceMonitor"):
            who, spec = named(monitor), monitor["spec"]
            services = [s for s in self.of("Service") if self.matches(who, spec["selector"], s["metadata"].get("labels", {}))]
            if not services:
                self.find(f"{who}: no service has the labels {spec['selector']}")
            for endpoint in spec["endpoints"]:
                for service in services:
                    if endpoint["port"] not in [port["name"] for port in service["spec"]["ports"]]:
                        self.find(f"{who}: {named(service)} has no port {endpoint['port']}")
                    tls = endpoint["tlsConfig"]
                    if tls["serverName"] != service["metadata"]["name"]:
                        self.find(f"{who}: it expects the name {tls['serverName']} of {named(service)}")
                for secret in (endpoint["authorization"]["credentials"], endpoint["tlsConfig"]["ca"]["secret"]):
                    self.refer(who, "Secret", secret["name"], secret["key"])


def named(item):
    return f"{item['kind']} {item['metadata']['name']}"


def main():
    readme, files = sys.argv[1], sys.argv[2:]
    if not files:
        sys.exit("references.py: no rendered file")
    findings, used, objects = {}, set(), 0
    for file in files:
        rendered = Rendered(file)
        rendered.check()
        used |= rendered.used
        objects += len(rendered.objects)
        for what in dict.fromkeys(rendered.findings):
            findings.setdefault(what, []).append(file)
    with open(readme, encoding="utf-8") as text:
        about = text.read()
    for kind, name in sorted(USER_MADE):
        if (kind, name) not in used:
            findings[f"nothing uses the {kind} {name} of USER_MADE"] = [__file__]
        if f"create secret generic {name} " not in about:
            findings[f"it does not say how the {kind} {name} is made"] = [readme]
    # What is wrong in a base is wrong in many renderings: it is said once.
    for what, where in findings.items():
        print(f"{where[0]}{f' and {len(where) - 1} more' if len(where) > 1 else ''}: {what}")
    print(f"references: {objects} objects in {len(files)} renderings, {len(findings)} findings")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
