"""Every implementation and every fake is run by a contract suite, as the sources tell."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]

EXCEPTIONS = {
    "rtdeliver.frontend.connection._Expiry": "is visited once, and seen by its connection only",
    "tests.latency.test_recorder.HangingRecords": "writes nothing, to see who waits for it",
    "tests.dispatcher.test_links.RaisingClient": "breaks its promise, to see what comes of it",
    "tests.dispatcher.test_peers.RaisingPeerClient": "breaks its promise, to see what comes of it",
    "tests.roles.test_local.FailingDeliveries": "is a frontend with a fault",
    "tests.test_actor.FailingActor": "raises an exception in each turn, and does no work",
    "tests.test_wheel.FailingVisited": "raises an exception at each visit",
    "tests.test_wheel.Asking": "is seen by one test only, which it is a part of",
}
"""What implements an interface and is run by no suite, and why."""


class Sources:
    """The classes of the project by qualified name, with what their names mean in their modules."""

    def __init__(self, root: Path, *packages: str) -> None:
        self.classes: dict[str, ast.ClassDef] = {}
        self._names: dict[str, dict[str, str]] = defaultdict(dict)
        self._module_of: dict[str, str] = {}
        for package in packages:
            for path in sorted((root / package).rglob("*.py")):
                module = ".".join(path.relative_to(root).with_suffix("").parts)
                self._read(module.removesuffix(".__init__"), ast.parse(path.read_text()))

    def _read(self, module: str, tree: ast.Module) -> None:
        names = self._names[module]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.ClassDef):
                qualified = names[node.name] = f"{module}.{node.name}"
                self.classes[qualified] = node
                self._module_of[qualified] = module

    def bases(self, name: str) -> list[str]:
        """Return the classes that ``name`` names as its bases."""
        return [self._resolved(name, base) for base in self.classes[name].bases]

    def ancestry(self, name: str) -> Iterator[str]:
        """Yield ``name`` and all that it inherits from, as far as that is in the sources."""
        if name in self.classes:
            yield name
            for base in self.bases(name):
                yield from self.ancestry(base)

    def attribute(self, name: str, attribute: str) -> str:
        """Return the class that an attribute of a class is, own or inherited; empty for none."""
        for ancestor in self.ancestry(name):
            for statement in self.classes[ancestor].body:
                match statement:
                    case (
                        ast.Assign(targets=[ast.Name(id=target)], value=ast.Name() as value)
                        | ast.AnnAssign(target=ast.Name(id=target), value=ast.Name() as value)
                    ) if target == attribute:
                        return self._resolved(ancestor, value)
        return ""

    def implemented(self, name: str) -> list[str]:
        """Return the interfaces that the class is decorated to implement."""
        return [
            self._resolved(name, interface)
            for decorator in self.classes[name].decorator_list
            if isinstance(decorator, ast.Call)
            and isinstance(decorator.func, ast.Name)
            and decorator.func.id == "implementer"
            for interface in decorator.args
        ]

    def _resolved(self, name: str, node: ast.expr) -> str:
        # A generic class stands before the types that it is used with.
        while isinstance(node, ast.Subscript):
            node = node.value
        written = ast.unparse(node)
        return self._names[self._module_of[name]].get(written, written)


def implementers(sources: Sources) -> dict[str, set[str]]:
    """Return the implementers of each interface of the project, but for the exceptions."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in sources.classes.keys() - EXCEPTIONS.keys():
        for interface in sources.implemented(name):
            if interface.startswith("rtdeliver."):
                found[interface].add(name)
    return found


def run_by_suites(sources: Sources) -> set[tuple[str, str]]:
    """Return the interfaces whose suites are run, with the implementations.

    They are run by the test cases of Trial, and by those that pytest finds by their name.
    """
    return {
        (sources.attribute(name, "interface"), sources.attribute(name, "implementation"))
        for name in sources.classes
        if name.rpartition(".")[2].startswith("Test") or _is_test_case(sources, name)
    }


def _is_test_case(sources: Sources, name: str) -> bool:
    # A suite says that it is a test case to the type checker only.
    return any(
        "twisted.trial.unittest.SynchronousTestCase" in sources.bases(ancestor)
        for ancestor in sources.ancestry(name)
        if not ancestor.startswith("tests.contracts.contract.")
    )


@cache
def project() -> Sources:
    return Sources(ROOT, "rtdeliver", "tests")


class CompletenessTests(SynchronousTestCase):
    def test_every_implementer_among_several_is_run_by_a_suite(self) -> None:
        run = run_by_suites(project())
        missing = [
            f"{name} implements {interface}, and no contract suite runs it"
            for interface, names in sorted(implementers(project()).items())
            if len(names) > 1
            for name in sorted(names)
            if (interface, name) not in run
        ]
        self.assertEqual([], missing)

    def test_every_exception_is_one(self) -> None:
        run = {name for _, name in run_by_suites(project())}
        for name in EXCEPTIONS:
            self.assertIn(name, project().classes)
            self.assertTrue(project().implemented(name), name)
            self.assertNotIn(name, run)

    def test_the_sources_are_read(self) -> None:
        """Without this, the other tests would pass where nothing is found."""
        found = implementers(project())
        self.assertGreater(len(found["rtdeliver.interfaces.IRoutingTable"]), 4)
        self.assertIn("rtdeliver.process.worker.WorkerHost", found["rtdeliver.process.host.IHost"])
