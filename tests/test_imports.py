"""Who may import whom, read from the source."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]

FLOORS = {
    "twistd": ("twisted.plugins", "tap"),
    "command": ("command",),
    "roles": ("roles",),
    "application": ("likes",),
    "domain": (
        "frontend",
        "dispatcher",
        "routing",
        "presence",
        "revocations",
        "occupancy",
        "history",
        "latency",
        "status",
    ),
    "mechanisms": ("http", "redis", "process"),
    "reading of settings": ("config", "redis.url"),
    "small parts": (
        *("actor", "backoff", "wheel", "tokens", "metrics", "histogram", "deferreds", "client"),
        *("sampling", "spread", "grants", "keys", "revoked"),
    ),
    "values and promises": (
        *("errors", "model", "event_ids", "messages", "interfaces", "wire"),
        "config.sections",
    ),
}
"""The house from the top down. A module imports from its own package, and from floors below it.

Packages on one floor do not know each other, but for what `NEIGHBOURS` allows. The benchmarks stand
beside the house.
"""

NEIGHBOURS = {
    # Values are made of each other, and so are the small parts.
    "values and promises",
    "small parts",
    "reading of settings",
    "twistd",
}
"""Floors on which packages may know each other."""

PURE = (
    *FLOORS["values and promises"],
    *("actor", "wheel", "metrics", "histogram", "redis.url", "client"),
    *(
        "grants",
        "revoked",
        "sampling",
        "spread",
        "latency.joiner",
        "latency.results",
        "latency.summary",
    ),
    *(
        "frontend.ages",
        "frontend.tracking",
        "frontend.feed",
        "frontend.resume",
        "frontend.topic_order",
        "frontend.sse",
        "frontend.subscriptions",
    ),
    *(
        "likes.model",
        "likes.bodies",
        "likes.limits",
        "likes.page",
        "likes.publisher",
        "likes.statements",
        "likes.store",
    ),
)
"""What knows neither reactor nor HTTP nor Redis."""

KLEIN_IN_ROLES = tuple(f"rtdeliver.roles.{name}" for name in ("base", "dispatcher", "records"))
"""The roles that hand apps of Klein on."""

WORLD = ("twisted.internet.reactor", "twisted.web", "klein", "treq", "txredisapi")


class Import(NamedTuple):
    """One name that a module imports, in full."""

    name: str
    in_function: bool


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    """Return the dotted name of the module in this file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): parse(path)
    for folder in ("rtdeliver", "twisted/plugins")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def imports(tree: ast.AST, *, in_function: bool = False) -> Iterator[Import]:
    """Yield what ``tree`` imports: for ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, in_function)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield Import(module, in_function)
            for alias in node.names:
                yield Import(f"{module}.{alias.name}", in_function)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, in_function=in_function or inside)


IMPORTS = {module: list(imports(tree)) for module, tree in MODULES.items()}


def within(name: str, package: str) -> bool:
    """Whether ``name`` is ``package`` or in it."""
    return f"{name}.".startswith(f"{package}.")


def full(name: str) -> str:
    """Return the dotted name of what the tables above call ``name``."""
    return name if name.startswith("twisted.") else f"rtdeliver.{name}"


def room_of(module: str) -> tuple[str, str]:
    """Return the floor that a module is on, and the entry of the table that it belongs to."""
    rooms = [
        (len(name), floor, name)
        for floor, names in FLOORS.items()
        for name in names
        if within(module, full(name))
    ]
    _, floor, name = max(rooms)
    return floor, name


def importers(package: str) -> set[str]:
    """Return the modules that import ``package`` or something in it."""
    return {
        module
        for module, every in IMPORTS.items()
        if any(within(imported.name, package) for imported in every)
    }


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


class ReadingTests(SynchronousTestCase):
    """That the rules below look at something."""

    def test_all_modules_are_read_and_have_a_place(self) -> None:
        self.assertIn("rtdeliver.frontend.routes", MODULES)
        named = [full(name) for names in (*FLOORS.values(), PURE) for name in names]
        for name in named:
            self.assertTrue([module for module in MODULES if within(module, name)], name)
        homeless = {
            module
            for module in MODULES
            if not any(within(module, name) for name in [*named, "rtdeliver.bench"])
        }
        self.assertEqual(homeless, {"rtdeliver"})

    def test_imports_of_all_kinds_are_seen(self) -> None:
        source = (
            "import a.b, c as d\n"
            "from e import f as g\n"
            "from . import h\n"
            "class K:\n"
            "    import i\n"
            "    async def m(self):\n"
            "        if self:\n"
            "            import j\n"
        )
        self.assertEqual(
            list(imports(ast.parse(source))),
            [
                ("a.b", False),
                ("c", False),
                ("e", False),
                ("e.f", False),
                (".", False),
                ("..h", False),
                ("i", False),
                ("j", True),
            ],
        )


class LayerTests(SynchronousTestCase):
    def test_imports_go_down_the_floors(self) -> None:
        height = {floor: -number for number, floor in enumerate(FLOORS)}
        wrong = set()
        for module, imported in IMPORTS.items():
            if module == "rtdeliver" or within(module, "rtdeliver.bench"):
                continue
            floor, room = room_of(module)
            for name in {found.name for found in imported} & MODULES.keys() - {"rtdeliver"}:
                there, other = room_of(name)
                beside = there == floor and (other == room or floor in NEIGHBOURS)
                if not (beside or height[there] < height[floor]):
                    wrong.add((module, name))
        self.assertEqual(wrong, set())

    def test_only_the_roles_know_the_process(self) -> None:
        others = {
            module
            for module in importers("rtdeliver.process")
            if room_of(module)[1] not in ("process", "roles", "tap", "command")
        }
        self.assertEqual(others, set())

    def test_pure_modules_know_nothing_of_the_world(self) -> None:
        for package in WORLD:
            pure = {
                module
                for module in importers(package)
                if any(within(module, full(name)) for name in PURE)
            }
            self.assertEqual(pure, set(), package)

    def test_klein_appears_in_routes_only(self) -> None:
        others = {name for name in importers("klein") if not name.endswith(".routes")}
        self.assertEqual(others, set(KLEIN_IN_ROLES))

    def test_roles_name_an_app_of_klein_but_make_none(self) -> None:
        for module in KLEIN_IN_ROLES:
            tree = MODULES[module]
            named = [found.name for found in IMPORTS[module] if within(found.name, "klein")]
            self.assertEqual(named, ["klein", "klein.Klein"])
            calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
            self.assertNotIn("Klein", [func.id for func in calls if isinstance(func, ast.Name)])

    def test_treq_appears_in_the_http_client_only(self) -> None:
        self.assertEqual(importers("treq"), {"rtdeliver.http.client"})

    def test_httptools_appears_in_the_fast_client_only(self) -> None:
        self.assertEqual(importers("httptools"), {"rtdeliver.http.fast_client"})

    def test_txredisapi_appears_in_the_redis_package_only(self) -> None:
        others = {name for name in importers("txredisapi") if not within(name, "rtdeliver.redis")}
        self.assertEqual(others, set())

    def test_the_reactor_is_imported_where_a_process_begins(self) -> None:
        found = {
            (module, imported.in_function)
            for module, every in IMPORTS.items()
            for imported in every
            if imported.name == "twisted.internet.reactor"
        }
        # A command is a process of its own.
        expected = {
            ("rtdeliver.tap", True),
            ("rtdeliver.command.redis", True),
            ("rtdeliver.command.settings", True),
        }
        self.assertEqual(found, expected)

    def test_everyone_else_is_given_the_clock_that_measures_and_the_wall_clock(self) -> None:
        found = {
            (module, ast.unparse(node))
            for module, tree in MODULES.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and ast.unparse(node.value) == "time"
            and not within(module, "rtdeliver.bench")
            # Commands wait for nobody else.
            and not within(module, "rtdeliver.command")
        }
        self.assertEqual(
            found,
            {
                ("rtdeliver.process.monotonic", "time.monotonic"),
                # Python calls a handler of a signal without arguments of ours.
                ("rtdeliver.process.signals", "time.monotonic"),
                ("rtdeliver.roles.base", "time.time"),
            },
        )
        others = ("datetime", "time.time", "time.monotonic", "twisted.python.runtime")
        for name in others:
            self.assertEqual(importers(name), set(), name)

    def test_nothing_else_is_imported_within_a_function(self) -> None:
        found = {
            (module, imported.name)
            for module, every in IMPORTS.items()
            for imported in every
            if imported.in_function
        }
        self.assertEqual(
            found,
            {
                ("rtdeliver.tap", "twisted.internet"),
                ("rtdeliver.tap", "twisted.internet.reactor"),
                ("rtdeliver.command.redis", "twisted.internet"),
                ("rtdeliver.command.redis", "twisted.internet.reactor"),
                ("rtdeliver.command.settings", "twisted.internet"),
                ("rtdeliver.command.settings", "twisted.internet.reactor"),
                # From an extra, which `rtbench` asks for when it lacks.
                ("rtdeliver.bench.latency", "hdrh.histogram"),
                ("rtdeliver.bench.latency", "hdrh.histogram.HdrHistogram"),
                ("rtdeliver.bench.report", "matplotlib.figure"),
                ("rtdeliver.bench.report", "matplotlib.figure.Figure"),
            },
        )

    def test_the_app_knows_no_room_of_the_platform(self) -> None:
        rooms = ("frontend", "dispatcher", "routing", "presence", "bench", "roles")
        for room in rooms:
            inside = {
                name for name in importers(f"rtdeliver.{room}") if within(name, "rtdeliver.likes")
            }
            self.assertEqual(inside, set(), room)

    def test_only_what_puts_a_role_together_takes_all_settings(self) -> None:
        takers = importers("rtdeliver.config.sections.Config")
        others = {
            module
            for module in takers
            if not any(
                within(module, full(room))
                for room in ("roles", "tap", "config.load", "config.check", "command.settings")
            )
        }
        self.assertEqual(others, set())

    def test_only_the_roles_know_the_app(self) -> None:
        others = {
            name for name in importers("rtdeliver.likes") if not within(name, "rtdeliver.likes")
        }
        self.assertEqual(others, {"rtdeliver.roles.combined", "rtdeliver.roles.likes"})

    def test_only_the_database_module_of_the_app_knows_which_database_it_is(self) -> None:
        self.assertEqual(importers("sqlite3"), {"rtdeliver.likes.database_file"})

    def test_the_benchmarks_and_the_roles_know_nothing_of_each_other(self) -> None:
        inside = {module for module in MODULES if within(module, "rtdeliver.bench")}
        self.assertEqual(importers("rtdeliver.bench") - inside, set())
        self.assertEqual(importers("twisted") & inside, set())
        ours = {
            imported.name
            for module in inside
            for imported in IMPORTS[module]
            if imported.name in MODULES
        }
        low = {room_of(name)[0] for name in ours - inside - {"rtdeliver"}}
        self.assertLessEqual(low, {"small parts", "values and promises"})

    def test_imports_go_downwards_only(self) -> None:
        below = {
            module: {imported.name for imported in every if imported.name in MODULES}
            for module, every in IMPORTS.items()
        }
        # Raises a CycleError that names the modules.
        order = list(TopologicalSorter(below).static_order())
        self.assertEqual(sorted(order), sorted(MODULES))

    def test_nothing_private_is_imported_from_another_package_or_module(self) -> None:
        found = {
            (module, imported.name)
            for module, every in IMPORTS.items()
            for imported in every
            if any(is_private(part) for part in imported.name.split("."))
        }
        self.assertEqual(found, set())

    def test_nobody_but_takeover_reaches_into_the_private_parts_of_others(self) -> None:
        found = {
            (module, ast.unparse(node))
            for module, tree in MODULES.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and ast.unparse(node.value) not in ("self", "cls")
            and module != "rtdeliver.frontend.takeover"
            and ast.unparse(node) != "os._exit"
        }
        self.assertEqual(found, set())

    def test_imports_are_absolute(self) -> None:
        relative = {
            module
            for module, every in IMPORTS.items()
            for imported in every
            if imported.name.startswith(".")
        }
        self.assertEqual(relative, set())
