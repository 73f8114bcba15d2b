"""The import graph of Quarry's modules: every import statement counts, wherever it stands."""

import ast
from pathlib import Path

from support.campaigns import REPOSITORY

QUARRY = REPOSITORY / "workflow_scripts" / "quarry"


def modules(folder: Path = QUARRY) -> dict[str, Path]:
    """Return every module by its name, e.g. quarry.config.base; a package stands for its __init__."""
    named = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def import_graph(folder: Path = QUARRY) -> dict[str, set[str]]:
    """Return which modules each module imports: at its top, in functions and for type checkers alike."""
    known = modules(folder)
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= names & set(known) if names & set(known) else {node.module}
        graph[name] = (found & set(known)) - {name}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other (Tarjan's strongly connected components of more than one)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return groups


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return which rooms (packages directly below quarry; a module there is a room of its own) import which."""

    def room(name: str) -> str:
        return ".".join(name.split(".")[:2])

    found: dict[str, set[str]] = {}
    for name, others in graph.items():
        found.setdefault(room(name), set()).update(room(other) for other in others if room(other) != room(name))
    return found
