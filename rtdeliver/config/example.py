"""How the example file is made from the sections: ``python -m rtdeliver.config.example``."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec

from rtdeliver.config import sections

_WIDTH = 100
_HEADER = """\
All settings of rtdeliver, with their defaults. Pass the file with --config; an option on the
command line overrides it. One file can serve all roles: each role reads its own tables, and a table
names the roles that read it, unless all do.
An empty text or list sets nothing, unless its comment says otherwise. A number must be more than 0,
and a time at most a year, unless its comment says otherwise."""


def example() -> str:
    """Return a TOML file that sets every key to its default, with comments."""
    tables = (_table(field.name, field.type) for field in msgspec.structs.fields(sections.Config))
    return "\n".join([_comment(_HEADER), *tables])


def _table(name: str, section: type[msgspec.Struct]) -> str:
    lines = [f"\n[{name}]", _comment(inspect.getdoc(section) or "")]
    docs = dict(_docs(section))
    for field in msgspec.structs.fields(section):
        lines.append("")
        lines.append(_comment(docs[field.name] + _bounds(field.type)))
        default = _default(field)
        # What has no default is not set in the file.
        lines.append(
            f"{field.name} = {_toml(default)}" if default is not None else f"#{field.name} = []"
        )
    return "\n".join(lines) + "\n"


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _docs(section: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a section, and of those it extends, with their docstrings."""
    for base in reversed(section.__mro__):
        if base is sections.Section or not issubclass(base, sections.Section):
            continue
        [definition] = ast.parse(inspect.getsource(base)).body
        statements: list[ast.stmt] = getattr(definition, "body", [])
        for field, doc in pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr):
                yield ast.unparse(field.target), inspect.cleandoc(ast.literal_eval(doc.value))


def _bounds(field: type) -> str:
    """Return the range of a number where it differs from what the file's header says."""
    kind = msgspec.inspect.type_info(field)
    if not isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return ""
    may_be_0 = " May be 0." if kind.ge == 0 else ""
    is_bounded = kind.le is not None and kind.le < sections.YEAR_SECONDS
    return may_be_0 + (f" At most {kind.le:_.0f}." if is_bounded else "")


def _comment(text: str) -> str:
    """Return a comment; its lines are filled, except those that are indented."""
    lines: list[str] = []
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line and not line.startswith(" "):
            paragraph.append(line)
            continue
        lines.extend(textwrap.wrap(" ".join(paragraph), _WIDTH - 2, break_on_hyphens=False))
        paragraph.clear()
        if line:
            lines.append(line)
    return "\n".join(f"# {line}" for line in lines)


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() if value >= 10_000:
            return f"{value:_}"
        case int() | float():
            return str(value)
        case str():
            return msgspec.json.encode(value).decode()
        case dict():
            pairs = ", ".join(f"{key} = {_toml(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            return f"[{', '.join(map(_toml, value))}]"


if __name__ == "__main__":
    sys.stdout.write(example())
