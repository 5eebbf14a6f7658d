"""Writes the pages of the public names: signatures from the stubs, docstrings from the objects.

griffe, which mkdocstrings reads with, sees the names of a compiled module with its docstrings or
with its stub's types: not both.
"""

import ast
import functools
import importlib
import inspect
import re
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import aiopoll


class Page(NamedTuple):
    """A page of names, all of one public module."""

    title: str
    module: str
    about: str = ""
    rooms: tuple[str, ...] = ()
    """Where those of aiopoll's names are defined that are on this page."""
    first: tuple[str, ...] = ()
    """The names that come first; the others follow by the alphabet."""


PAGES = {
    "loop": Page(
        "Names of the loop",
        "aiopoll",
        "[EventLoop](../event-loop.md) has the rules for all of them.",
        ("loop",),
        ("run", "new_event_loop", "install", "alias_uvloop", "EventLoop"),
    ),
    "metrics": Page(
        "Names of the measurements",
        "aiopoll",
        "[Metrics](../metrics.md) has what they mean together.",
        ("loop.monitor", "reactor.statistics"),
        ("LoopMetrics", "Timings", "Histogram", "ThreadPoolMetrics", "ReactorStatistics"),
    ),
    "streams": Page(
        "Names of the streams",
        "aiopoll",
        "[Streams](../streams.md) has the rules for all of them.",
        ("loop.streams", "streams"),
        ("open_connection", "start_server", "open_unix_connection", "start_unix_server"),
    ),
    "files": Page(
        "Names of the files",
        "aiopoll",
        "[Files](../files.md) has the rules for all of them.",
        ("files",),
        ("open", "BinaryFile", "TextFile", "Path", "read_bytes", "write_bytes", "write_atomic"),
    ),
    "context": Page(
        "Names of Linux AIO",
        "aiopoll",
        "[Context, Iocb, IoEvent](../context.md) and [AioSelector](../selector.md) have the rules.",
        ("aio", "selector", "support"),
        ("Context", "Iocb", "IoEvent", "SubmitError", "ContextStatistics", "AlignedBuffer"),
    ),
    "prometheus": Page("Names of aiopoll.prometheus", "aiopoll.prometheus"),
    "otel": Page("Names of aiopoll.otel", "aiopoll.otel"),
    "libaio": Page("Names of aiopoll.libaio", "aiopoll.libaio"),
    "sim": Page("Names of aiopoll.sim", "aiopoll.sim", "[aiopoll.sim](../sim.md) has the rules."),
    "kernel": Page("Names of aiopoll.kernel", "aiopoll.kernel"),
}
"""The pages by the name of their file; without rooms they have all names of their module."""

PARAMETER = re.compile(r"^(?:    )?(\*{0,2}[a-z]\w*(?:, \*{0,2}[a-z]\w*)*): (.*)")


def public_names(module: str) -> list[str]:
    """The names that a module makes public: __all__, or what it imports for others."""
    found = importlib.import_module(module)
    if names := getattr(found, "__all__", None):
        return list(names)
    return [
        name
        for name, value in vars(found).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and getattr(value, "__module__", "").startswith("aiopoll.")
    ]


def page_of(room: str) -> str | None:
    """The page of a room of the package: of the nearest one above it that has a page."""
    while room:
        for name, page in PAGES.items():
            if room in page.rooms:
                return name
        room = room.rpartition(".")[0]
    return None


def names_of(page: Page) -> list[str]:
    if not page.rooms:
        return public_names(page.module)
    names = [
        name
        for name, room in aiopoll._MODULE_OF.items()
        if PAGES.get(page_of(room) or "") is page and name in aiopoll.__all__
    ]
    return sorted(names, key=lambda name: (*(name != one for one in page.first), name))


@functools.cache
def tree(module: str) -> ast.Module:
    """The syntax of a module: of its stub, if it has one."""
    path = Path(str(sys.modules[module].__file__))
    stub = path.with_name(path.name.partition(".")[0] + ".pyi")
    text = (stub if stub.exists() else path).read_text(encoding="utf-8")
    return ast.parse(text)


def definitions(body: list[ast.stmt], name: str) -> list[ast.stmt]:
    """What defines a name: several statements, if it is overloaded."""
    found: list[ast.stmt] = []
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if node.name == name:
                found.append(node)
            case ast.AnnAssign(target=ast.Name(id=target)) if target == name:
                found.append(node)
            case ast.Assign(targets=[ast.Name(id=target)]) if target == name:
                found.append(node)
            case ast.If():
                found += definitions(node.body, name)
    overloads = [node for node in found if decorators(node) & {"overload"}]
    return overloads or found[-1:]


def decorators(node: ast.stmt) -> set[str]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return set()
    return {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}


def signature(node: ast.stmt, name: str, *, bound: bool = False) -> str:
    """A definition in one line, or with a line for each parameter if it is long."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            if decorators(node) & {"property", "cached_property"}:
                return f"{name}: {ast.unparse(node.returns)}" if node.returns else name
            parts = parameters(node.args)
            if bound and not decorators(node) & {"staticmethod"}:
                parts = parts[1:] if parts[1:2] != ["/"] else parts[2:]
            start = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
            end = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            line = f"{start}{name}({', '.join(parts)}){end}"
            if len(line) > 90 and parts:
                rows = "".join(f"    {part},\n" for part in parts)
                line = f"{start}{name}(\n{rows}){end}"
            return line
        case ast.AnnAssign():
            return f"{name}: {ast.unparse(node.annotation)}"
    return name


def parameters(arguments: ast.arguments) -> list[str]:
    """The parameters one by one, with / and *."""

    def shown(one: ast.arg, default: ast.expr | None = None) -> str:
        typed = f"{one.arg}: {ast.unparse(one.annotation)}" if one.annotation else one.arg
        if default is None:
            return typed
        return f"{typed}{' = ' if one.annotation else '='}{ast.unparse(default)}"

    positional = [*arguments.posonlyargs, *arguments.args]
    first_default = len(positional) - len(arguments.defaults)
    parts = [
        shown(one, arguments.defaults[at - first_default] if at >= first_default else None)
        for at, one in enumerate(positional)
    ]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg:
        parts.append(f"*{shown(arguments.vararg)}")
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += map(shown, arguments.kwonlyargs, arguments.kw_defaults)
    return parts + [f"**{shown(one)}" for one in [arguments.kwarg] if one]


def escaped(text: str) -> str:
    """Prose in which no character means anything to Markdown, but for what is in backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"(?<!\w)_|_(?!\w)|[*<\[\]]", r"\\\g<0>", part)
        for part in parts
    )


def prose(docstring: str | None) -> str:
    """A docstring in Markdown: lists of parameters become lists, indented code stays code."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring or "")):
        rows = block.splitlines()
        if block.startswith("    ") and not PARAMETER.match(block):
            lines += ["```", *(row.removeprefix("    ") for row in rows), "```", ""]
            continue
        within = False  # a list
        for row in rows:
            if found := PARAMETER.match(row):
                lines += [] if within else [""]
                lines.append(f"- `{found[1]}`: {escaped(found[2])}")
                within = True
            elif within and not row.startswith("    "):
                lines += ["", escaped(row)]
                within = False
            elif row.startswith("- "):
                lines.append(f"- {escaped(row[2:])}")
            else:
                lines.append(f"    {escaped(row.strip())}" if within else escaped(row))
        lines.append("")
    return "\n".join(lines).strip()


def field_doc(body: list[ast.stmt], node: ast.stmt) -> str | None:
    """The text under a field."""
    following = body[body.index(node) + 1 :] if node in body else []
    match following[:1]:
        case [ast.Expr(value=ast.Constant(value=str(text)))]:
            return text
    return None


def member_lines(owner: type, name: str, cls: type, body: list[ast.stmt]) -> list[str]:
    """A heading for a method; an item of a list for a field or property."""
    nodes = definitions(body, name)
    text = field_doc(body, nodes[0]) if nodes else None
    if text is None and not isinstance(nodes[0] if nodes else None, ast.AnnAssign):
        text = inspect.getdoc(getattr(cls, name))
    shown = [signature(node, name, bound=True) for node in nodes] or [name]
    anchor = f"{qualified(owner)}.{name}"
    if "(" not in shown[0].partition(":")[0]:
        item = f"- <span id='{anchor}'></span>`{shown[0]}`"
        return [f"{item}: {prose(text)}".replace("\n", "\n    ") if text else item]
    return [
        "",
        f"### {name} {{ #{anchor} }}",
        "",
        "```python",
        "\n\n".join(shown),
        "```",
        "",
        prose(text),
    ]


@functools.cache
def home_of(thing: Any) -> str:
    """The module in which a name is public."""
    for page in PAGES.values():
        module = importlib.import_module(page.module)
        if getattr(module, thing.__name__, None) is thing:
            return page.module
    raise LookupError(f"{thing!r} is on no page")


def qualified(thing: Any) -> str:
    return f"{home_of(thing)}.{thing.__name__}"


def class_body(cls: type) -> list[ast.stmt]:
    found = definitions(tree(cls.__module__).body, cls.__name__)
    return found[0].body if found and isinstance(found[0], ast.ClassDef) else []


def class_lines(cls: type) -> list[str]:
    """A class, its members and those of its bases in the package."""
    bodies = {
        base: class_body(base) for base in cls.__mro__ if base.__module__.startswith("aiopoll")
    }
    init = next((nodes for body in bodies.values() if (nodes := definitions(body, "__init__"))), [])
    head = [
        re.sub(r" -> None$", "", signature(node, f"class {cls.__name__}", bound=True))
        for node in init
    ]
    lines = ["```python", *(head or [f"class {cls.__name__}"]), "```", ""]
    if cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("):
        lines += [prose(cls.__doc__), ""]
    fields: list[str] = []
    methods: list[str] = []
    seen: set[str] = set()
    for base, body in bodies.items():
        names = [name for name in vars(base) if not name.startswith("_")]
        names += [
            node.target.id
            for node in body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        ]
        for name in names:
            if name in seen or name.startswith("_"):
                continue
            seen.add(name)
            shown = member_lines(cls, name, base, body)
            if shown[0]:
                fields += shown
            else:
                methods += shown
    return [*lines, *fields, "", *methods, ""]


def name_lines(module: str, name: str) -> list[str]:
    """The lines of one public name."""
    thing = getattr(importlib.import_module(module), name)
    lines = [f"## {name} {{ #{module}.{name} }}", ""]
    if isinstance(thing, type):
        return [*lines, *class_lines(thing)]
    if isinstance(thing, types.FunctionType) or inspect.isbuiltin(thing):
        nodes = definitions(tree(thing.__module__).body, thing.__name__)
        shown = [signature(node, name) for node in nodes]
        return [*lines, "```python", "\n\n".join(shown), "```", "", prose(thing.__doc__), ""]
    if type(thing).__module__.startswith("aiopoll."):
        return [*lines, f"`{name}: {type(thing).__name__}`", "", prose(inspect.getdoc(thing)), ""]
    return [*lines, f"`{name} = {thing!r}`", ""]


def api_page(page: Page) -> str:
    lines = [f"# {page.title}", "", page.about, ""]
    if not page.rooms:
        lines += [prose(importlib.import_module(page.module).__doc__), ""]
    constants: list[str] = []
    for name in names_of(page):
        thing = getattr(importlib.import_module(page.module), name)
        if isinstance(thing, int | str | bytes):
            constants.append(f"| <span id='{page.module}.{name}'></span>`{name}` | `{thing!r}` |")
        elif not isinstance(thing, types.ModuleType):
            lines += name_lines(page.module, name)
    if constants:
        lines += ["## Constants", "", "| name | value |", "|---|---|", *constants, ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def check_complete() -> None:
    """Raises LookupError for a public name of the package that is on no page."""
    listed = {name for page in PAGES.values() for name in names_of(page)}
    modules = {page.module.removeprefix("aiopoll.") for page in PAGES.values()}
    if missing := set(aiopoll.__all__) - listed - modules:
        raise LookupError(f"no page has {sorted(missing)}: add their room to PAGES")


def write_pages(folder: Path) -> None:
    check_complete()
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / f"{name}.md").write_text(api_page(page), encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
