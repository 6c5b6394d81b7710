"""The floors of the house: a module stands above all that it imports, and no import runs in a circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import ingest_cli

TOP = Path(ingest_cli.__file__).parent
TESTS = Path(__file__).parents[1]
GROUND = {
    "",
    "settings",
    "connections",
    "copying",
    "disk",
    "errors",
    "in_threads",
    "meter",
    "moments",
    "mounts",
    "shared_sync",
    "streams",
    "text",
    "throttle",
}
LOWER = GROUND | {"jobs", "bundle", "services"}
MIDDLE = LOWER | {"spool"}
UPPER = MIDDLE | {"events", "pipeline", "maintenance", "retrieval"}
# What services may know of jobs.
DATABASES = {
    *("jobs.contention", "jobs.database", "jobs.dialect", "jobs.group_commit", "jobs.neighbours", "jobs.process"),
    *("jobs.sqlite_database", "jobs.postgres_connections", "jobs.postgres_database"),
}
# What each wing, or module of the root, may import besides itself; there are no others. "" is the package's own file.
MAY_IMPORT = {
    "settings": GROUND,
    "connections": GROUND,
    "copying": GROUND,
    "disk": GROUND,
    "errors": GROUND,
    "in_threads": GROUND,
    "meter": GROUND,
    "moments": GROUND,
    "mounts": GROUND,
    "shared_sync": GROUND,
    "streams": GROUND,
    "text": GROUND,
    "throttle": GROUND,
    "jobs": GROUND,
    "bundle": GROUND,
    "client": GROUND | {"bundle"},
    "services": GROUND | {"bundle", "jobs"},
    "spool": LOWER,
    "events": MIDDLE,
    "pipeline": MIDDLE | {"events"},
    "maintenance": MIDDLE | {"events"},
    "retrieval": MIDDLE,
    "deployment": GROUND,
    "api": UPPER | {"client"},
    "": UPPER | {"api", "client"},
    "watch": MIDDLE | {"pipeline", "api"},
    "server": MIDDLE | {"pipeline", "retrieval", "api"},
    "cli": UPPER | {"api", "client", "deployment", "watch", "server"},
    "__main__": GROUND | {"cli"},
}


def modules() -> dict[str, Path]:
    """Every file by its dotted name below the package: ``jobs`` is the wing's own file, "" the package's."""
    names = {path: ".".join(path.relative_to(TOP).with_suffix("").parts) for path in TOP.rglob("*.py")}
    return {name.removesuffix("__init__").removesuffix("."): path for path, name in names.items()}


def imports(name: str, path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it, in a function and for type checking too."""
    inner = [] if name == "" else name.split(".")
    package = inner if path.name == "__init__.py" else inner[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names if alias.name.split(".")[0] == TOP.name]
            yield from (name.removeprefix(TOP.name).removeprefix(".") for name in named)
        elif isinstance(node, ast.ImportFrom):
            whole = (node.module or "").split(".") if node.module else []
            if node.level:
                whole = package[: len(package) - node.level + 1] + whole
            elif whole[:1] == [TOP.name]:
                whole = whole[1:]
            else:
                continue
            for alias in node.names:
                if alias.name == "__version__":  # it stands in the package's own file, but is no part of its face
                    continue
                inside = ".".join([*whole, alias.name])
                yield inside if inside in MODULES else ".".join(whole)


def wing(name: str) -> str:
    return name.split(".")[0]


MODULES = modules()
EDGES = {(name, other) for name, path in MODULES.items() for other in imports(name, path) if other != name}


def circles() -> set[str]:
    """Modules that import each other, through however many others."""
    reached = {name: {other for one, other in EDGES if one == name} for name in MODULES}
    for through in MODULES:
        for name in MODULES:
            if through in reached[name]:
                reached[name] |= reached[through]
    return {name for name in MODULES if name in reached[name]}


def violations() -> set[str]:
    found = {f"{name} is in a circle" for name in circles()}
    for name, other in EDGES:
        above, below = wing(name), wing(other)
        jobs_of_services = (above, below) == ("services", "jobs") and other not in DATABASES
        if jobs_of_services or (above != below and below not in MAY_IMPORT[above]):
            found.add(f"{name} imports {other}")
    return found


def test_every_wing_has_its_floor() -> None:
    assert {wing(name) for name in MODULES} == set(MAY_IMPORT)


def test_nothing_imports_what_stands_above_it() -> None:
    assert sorted(violations()) == []


def test_what_stands_below_the_ways_in_prints_nothing() -> None:
    """Whoever calls it from Python is told in another way."""
    found = set()
    for name, path in MODULES.items():
        if wing(name) not in {"cli", "server", "__main__"}:
            calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
            found |= {name for called in calls if isinstance(called, ast.Name) and called.id == "print"}
    assert sorted(found) == []


def test_no_test_imports_another() -> None:
    """What tests share is in support; a contract is there to be inherited."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[-1].startswith("test_"):
                names = [alias.name for alias in node.names if not alias.name.endswith("Contract")]
                found |= {f"{path.relative_to(TESTS)}: {name}" for name in names}
    assert sorted(found) == []
