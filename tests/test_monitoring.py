"""The rules and the dashboard of etc/: what they ask for exists, and every alert has a runbook."""

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import skipUnless

import yaml
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
RULES = ROOT / "etc/prometheus/rtdeliver.rules.yml"
DASHBOARD = ROOT / "etc/grafana/rtdeliver.json"
_SUFFIXES = {
    "counter": ["_total"],
    "dropped": ["_total"],
    "gauge": [""],
    "histogram": ["_bucket", "_count", "_sum"],
}
_OF_PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def exposed() -> set[str]:
    """The names of all metrics that some part of the source counts."""
    names = {"rtdeliver_dropped_total"}
    for path in (ROOT / "rtdeliver").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    suffixes = _SUFFIXES.get(node.func.id, [])
                    names.update(f"rtdeliver_{name.value}{suffix}" for suffix in suffixes)
    return names


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[str]:
    """Every query of the rules and of the dashboard."""
    yield from (rule["expr"] for rule in rules())
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


class MonitoringTests(SynchronousTestCase):
    def test_every_query_asks_for_metrics_that_exist(self) -> None:
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        known = exposed() | recorded | _OF_PROCESS
        self.assertGreater(len(known), 50)
        for expression in expressions():
            asked = re.findall(r"\b(?:rtdeliver[_:]|process_)[a-z0-9_:]+", expression)
            self.assertTrue(asked, expression)
            self.assertEqual(set(asked) - known, set(), expression)

    def test_every_alert_has_a_runbook(self) -> None:
        text = (ROOT / "docs/operations.md").read_text()
        headings = set(re.findall(r"^### (\w+)$", text, re.MULTILINE))
        alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
        self.assertEqual(set(alerts), headings)
        for name, rule in alerts.items():
            self.assertEqual(rule["annotations"]["runbook"], f"docs/operations.md#{name.lower()}")
            self.assertIn(rule["labels"]["severity"], {"warning", "critical"})

    @skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_prometheus_takes_the_rules(self) -> None:
        done = subprocess.run(
            ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)
