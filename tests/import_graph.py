"""Who imports whom, read from the files, so that late imports and those for type checkers count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

Graph = dict[str, set[str]]

#: The folders that are installed as ``neoteny.<folder>``.
PACKAGES = ("agents", "configs", "envs", "plasticity", "runners")


def modules(root: Path) -> dict[str, Path]:
    """The files of a checkout by the name that they are imported by."""
    found = {}
    for package in ("neoteny", *PACKAGES):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(parts if parts[0] == "neoteny" else ("neoteny", *parts))] = path
    return found


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """What a file imports: ``(a, "")`` of ``import a``, ``(a, b)`` of ``from a import b``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are written out, from neoteny on"
            yield from ((str(node.module), alias.name) for alias in node.names)


def between_files(root: Path) -> Graph:
    """Which of our files imports which."""
    files = modules(root)
    graph: Graph = {}
    for module, path in files.items():
        named = {full if (full := f"{source}.{name}") in files else source for source, name in imports(path)}
        graph[module] = (named & files.keys()) - {module}
    return graph


def between_rooms(root: Path) -> Graph:
    """Which of our folders imports which. An ``__init__.py``, its folder's door, is a room of its own."""
    files = modules(root)

    def room(module: str) -> str:
        return module if files[module].name == "__init__.py" else f"{module.rpartition('.')[0]}.*"

    graph: Graph = {}
    for module, imported in between_files(root).items():
        graph.setdefault(room(module), set()).update({room(name) for name in imported} - {room(module)})
    return graph


def circle(graph: Graph) -> list[str]:
    """The way round a circle, if there is one: ``[a, b, …, a]``."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node not in done:
            for following in sorted(graph.get(node, ())):
                if found := walk(following, [*way, node]):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])
