#!/usr/bin/env python3
"""Checks deploy/observe against what ferry serves, and writes its queries as rules that promtool can parse.

Usage: observe.py QUERIES.yaml

Every metric that a dashboard or a rule names is in docs/metrics.md, with the labels it is asked for; every failure that a runbook
points to has its section; panels do not overlap; the rules for Kubernetes are the same as the others. Prints every finding and exits with 1
if there is one.
"""

import json
import pathlib
import re
import sys

import yaml

# What Prometheus and those who scrape add.
OWN_LABELS = {"job", "instance", "le"}
METRIC = re.compile(r"\bferry_[a-z_]+\b")
SELECTOR = re.compile(r"\b(ferry_[a-z_]+)\{([^}]*)\}")
GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")

findings = []


def documented():
    """Labels of each metric, by name."""
    rows = [line for line in pathlib.Path("docs/metrics.md").read_text().splitlines() if line.startswith("| `ferry_")]
    found = {}
    for row in rows:
        name, kind, _, labels = [cell.strip() for cell in row.split("|")[1:5]]
        labels = {label.strip(" `") for label in labels.split(",") if label.strip(" `")}
        found[name.strip("`")] = labels
        if kind == "histogram":
            for end in ("_bucket", "_sum", "_count"):
                found[name.strip("`") + end] = labels | {"le"}
    return found


def check_query(where, query, metrics):
    for name in set(METRIC.findall(query)):
        if name not in metrics:
            findings.append(f"{where}: {name} is not in docs/metrics.md")
    known = OWN_LABELS.union(*(metrics.get(name, set()) for name in METRIC.findall(query)))
    for name, matchers in SELECTOR.findall(query):
        for label in re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', matchers)):
            if label not in metrics.get(name, set()) | OWN_LABELS:
                findings.append(f"{where}: {name} has no label {label}")
    for labels in GROUPED.findall(query):
        for label in filter(None, (part.strip() for part in labels.split(","))):
            if label not in known:
                findings.append(f"{where}: nothing in it has a label {label}")


def anchors(file):
    headings = re.findall(r"^#+ (.*)$", pathlib.Path(file).read_text(), re.M)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_rules(metrics):
    rules = yaml.safe_load(pathlib.Path("deploy/observe/alerts.yaml").read_text())
    ours = yaml.safe_load(pathlib.Path("deploy/k8s/components/monitoring/prometheus-rule.yaml").read_text())
    if ours["spec"]["groups"] != rules["groups"]:
        findings.append("prometheus-rule.yaml has other groups than deploy/observe/alerts.yaml")
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        where = f"alerts.yaml: {rule['alert']}"
        check_query(where, rule["expr"], metrics)
        notes = rule["annotations"]
        if not {"summary", "description", "runbook"} <= notes.keys():
            findings.append(f"{where}: it has no summary, description and runbook")
            continue
        file, _, anchor = notes["runbook"].partition("#")
        if not pathlib.Path(file).is_file():
            findings.append(f"{where}: there is no {file}")
        elif "{{" not in anchor and anchor not in anchors(file):
            findings.append(f"{where}: {file} has no section {anchor}")
    return rules


def check_dashboard(metrics):
    board = json.loads(pathlib.Path("deploy/observe/grafana-dashboard.json").read_text())
    variables = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval"}
    queries, places, ids = [], {}, set()
    for panel in board["panels"]:
        where = f"dashboard: {panel['title']}"
        if panel["id"] in ids:
            findings.append(f"{where}: its id is taken")
        ids.add(panel["id"])
        at = panel["gridPos"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            if cell[0] >= 24 or places.setdefault(cell, panel["id"]) != panel["id"]:
                findings.append(f"{where}: it lies over another panel")
                break
        for target in panel.get("targets", []):
            for used in re.findall(r"\$\{?(\w+)", target["expr"]):
                if used not in variables:
                    findings.append(f"{where}: there is no variable {used}")
            if target["datasource"]["uid"] != "${datasource}":
                findings.append(f"{where}: its data source is not the variable")
            check_query(where, target["expr"], metrics)
            queries.append(target["expr"].replace("$__rate_interval", "5m").replace("$job", ".*"))
    return queries


def main():
    metrics = documented()
    rules = check_rules(metrics)
    queries = check_dashboard(metrics)
    # Queries of panels, in a form that promtool looks at.
    named = [{"record": f"dashboard:query:{number}", "expr": query} for number, query in enumerate(queries)]
    pathlib.Path(sys.argv[1]).write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": named}]}))
    for finding in findings:
        print(finding)
    alerts = sum(len(group["rules"]) for group in rules["groups"])
    print(f"observe: {alerts} alerts, {len(queries)} queries of panels, {len(findings)} findings")
    sys.exit(1 if findings or not queries or not alerts else 0)


if __name__ == "__main__":
    main()
