"""User-defined code by import path, and whether it takes the arguments that the configuration gives it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from quarry.errors import QuarryError, reason_of
from quarry.processes import only_this_process

T = TypeVar("T")

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
LISTED = 20
"""Names of arguments that a message lists at most."""


def named(path: str) -> Any:
    """Return the object that an import path ``package.module:name`` of Quarry's tables stands for."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def load(path: str, key: str, base: Path | None = None) -> Callable[..., Any]:
    """Return what the import path ``package.module:name`` names; modules of the working directory count too.

    key: of the configuration, for messages. base: folder of the campaign file, whose modules count before those of the
    working directory. Raises QuarryError if it cannot be imported or called.
    """
    module_name, _, name = path.partition(":")
    # Appended: a file of the user's own folders never hides a library's module.
    for folder in (base, Path.cwd()):
        if folder is not None and str(folder.resolve()) not in sys.path:
            sys.path.append(str(folder.resolve()))
    try:
        with only_this_process():
            found = getattr(importlib.import_module(module_name), name)
    except (Exception, SystemExit) as error:
        remedy = _remedy(error, module_name, name, list(dict.fromkeys(f.resolve() for f in (base, Path.cwd()) if f)))
        raise QuarryError(f"{key}: cannot import '{path}' ({_reason(error)}); {remedy}") from error
    if not callable(found):
        raise QuarryError(f"{key}: '{path}' is not callable; name a function or a class")
    loaded: Callable[..., Any] = found
    return loaded


def call_user_code(call: Callable[[], T], failed: str, remedy: str = "correct it") -> T:
    """Return what user-defined code returns; what it raises, and its sys.exit, is a QuarryError of one line.

    failed: what is said before the reason: key, import path, what failed. A QuarryError passes as it is.
    """
    try:
        with only_this_process():
            return call()
    except QuarryError:
        raise
    except (Exception, SystemExit) as error:
        raise QuarryError(f"{failed} ({_reason(error)}); {remedy}") from error


def make_user_object(path: str, key: str, arguments: Mapping[str, Any], base: Path | None) -> Any:
    """Return an object of a user-defined class.

    path: import path of the class. key: of the configuration, that gives this path; ``arguments`` stand beside it. base: as
    of ``load``. Raises QuarryError if the class cannot be imported, or made with these arguments.
    """
    made, key_of_arguments = load(path, key, base), f"{key.rpartition('.')[0]}.arguments"
    check_arguments(made, arguments, path, key_of_arguments)
    return call_user_code(
        lambda: made(**arguments), f"{key}: {path} cannot be made with {key_of_arguments}", "correct them"
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r:.100})"
    return reason_of(error, named=True)


def _remedy(error: BaseException, module_name: str, name: str, folders: Sequence[Path]) -> str:
    """Return what to do about an import that failed: correct a name, put a file somewhere, install a package.

    folders: where the user's files are looked for.
    """
    package = module_name.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name.partition(".")[0]
        install = f"{sys.executable} -m pip install {missing}"
        if missing != package:
            return f"it needs a package that is not installed: {install}"
        if error.name == package:
            return _not_found(package, folders, install)
    module = sys.modules.get(module_name)
    if isinstance(error, AttributeError) and module is not None and not hasattr(module, name):
        close = difflib.get_close_matches(name, vars(module), n=1)
        if close:
            return f"did you mean '{module_name}:{close[0]}'?"
    return f"give package.module:name, importable from {' or '.join(map(str, folders))}"


def _not_found(package: str, folders: Sequence[Path], install: str) -> str:
    """Return that a module is in no folder, with the file there that may have been meant; else how to install a package."""
    there = {path.stem for folder in folders for path in folder.glob("*.py")}
    there |= {path.parent.name for folder in folders for path in folder.glob("*/__init__.py")}
    close = difflib.get_close_matches(package, sorted(there), n=1)
    missing = f"there is no {package}.py in {' or '.join(map(str, folders))}"
    if close:
        return f"{missing}; did you mean '{close[0]}'?"
    return f"{missing}; put it there or correct its name; if it is a package, install it: {install}"


def check_arguments(
    called: Callable[..., Any], given: Iterable[str], path: str, key: str, by_place: int = 0, complete: bool = True
) -> None:
    """Raise QuarryError for keyword arguments that a function or class does not take, and for one that it lacks.

    given: names of the keyword arguments. path: of the callable, key: of the arguments, for messages. by_place: number of
    further arguments that it is called with. complete: whether these are all arguments that it will get. A callable that
    takes any keyword (``**``) is believed, and one that does not say what it takes.
    """
    try:
        parameters = list(inspect.signature(called).parameters.values())
    except (TypeError, ValueError):
        return
    placed = [parameter.name for parameter in parameters if parameter.kind in BY_PLACE][:by_place]
    if len(placed) < by_place and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        raise QuarryError(
            f"{key.rpartition('.')[0] or key}: {path} takes no argument by place; it is called with {by_place}"
        )
    named = {p.name: p for p in parameters if p.kind in BY_NAME and p.name not in placed}
    names = list(given)
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        refuse_unknown(names, named, path, key)
    twice = [name for name in names if name in placed]
    if twice:
        raise QuarryError(f"{key}: {path} gets its '{twice[0]}' from Quarry; remove it")
    lacking = [name for name, p in named.items() if p.default is inspect.Parameter.empty and name not in names]
    if lacking and complete:
        raise QuarryError(f"{key}: {path} needs the argument '{lacking[0]}'; give it")


def refuse_unknown(names: Iterable[str], known: Iterable[str], path: str, key: str) -> None:
    """Raise QuarryError for the first argument that is not known, with the name that may have been meant."""
    taken = list(known)
    for name in names:
        if name in taken:
            continue
        close = difflib.get_close_matches(name, taken, n=1)
        listed = ", ".join(taken[:LISTED]) + (" ..." if len(taken) > LISTED else "")
        remedy = f"did you mean '{close[0]}'?" if close else f"it takes {listed}" if taken else "it takes none"
        raise QuarryError(f"{key}: {path} has no argument '{name}'; {remedy}")
