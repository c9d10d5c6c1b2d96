"""Find, import and tell apart an application of one's own: `--app shop:app`.

Main only looks whether the module can be found; whoever executes requests imports it, after its fork: so a process
worker has an interpreter's state of its own, as the application has behind any server that forks, and a change of the
code takes effect with the next worker. Workers that are threads share one import.

An interface is told by the signature. ASGI 3 is a coroutine function of three arguments (scope, receive, send), or an
object whose `__call__` is one; WSGI (PEP 3333) is any other callable that takes two (environ, start_response). What is
neither is refused, unless `--interface` says what it is.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

WSGI, ASGI = "wsgi", "asgi"
OURS = frozenset({"services", "lab", "loadtests"})
"""Packages of the lab: the server has imported one of them before it looks for the application."""
SPEC = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<attribute>[^\W\d]\w*(?:\.[^\W\d]\w*)*)")


class LoadError(Exception):
    """The application cannot be had. The text, one line, says why and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """An application, and the interface that it is called by."""

    application: Callable[..., Any]
    interface: str


@dataclass(frozen=True, slots=True)
class Source:
    """Place of an application: the module, its attribute, and the folder to look in first."""

    module: str
    attribute: str
    folder: Path
    interface: str

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


def source_of(options: Mapping[str, Any]) -> Source | None:
    """Return the source that `--app`, `--app-dir` and `--interface` name; None for the built-in application.

    Raises `LoadError` for what can be seen to be wrong without importing anything.
    """
    spec = options.get("app", "")
    if not spec:
        return None
    match = SPEC.fullmatch(spec)
    if match is None:
        raise LoadError(f"--app {spec!r}: give MODULE:ATTRIBUTE, for example shop:app for `app` in shop.py")
    if options["protocol"] not in ("auto", "http1"):
        raise LoadError(f"--app with --protocol {options['protocol']}: an application of one's own speaks HTTP only")
    folder = Path(options["app_dir"]).absolute()
    if not folder.is_dir():
        raise LoadError(f"--app-dir {options['app_dir']}: there is no such folder")
    check_module(match["module"].partition(".")[0], folder)
    return Source(match["module"], match["attribute"], folder, options["interface"])


def check_module(name: str, folder: Path) -> None:
    """Raise `LoadError` where no module or package has this name. Of a dotted one this is the first: nothing is run."""
    if name in OURS:
        raise LoadError(f"--app: the lab has a package {name!r} itself: give the application's another name")
    if name in sys.builtin_module_names or PathFinder.find_spec(name, [str(folder), *sys.path]) is not None:
        return
    raise LoadError(f"--app: no module {name!r} is in {folder}, and none is installed: give its folder as --app-dir")


def load(source: Source) -> Found:
    """Import the application; a second time in the same process it is the same one. Raises `LoadError`."""
    if (first := str(source.folder)) not in sys.path:
        sys.path.insert(0, first)
    found: Any = import_module(source)
    for name in source.attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise LoadError(f"--app {source}: there is no {name!r} in {source.module}") from None
    if not callable(found):
        raise LoadError(f"--app {source} is of type {type(found).__name__}, which cannot be called")
    return Found(found, interface_of(found, source))


def import_module(source: Source) -> object:
    """Import the module. Raises `LoadError` that has the exception's name, and the file and line that raised it."""
    try:
        return importlib.import_module(source.module)
    # SystemExit too: a script without `if __name__ == "__main__"` would end the worker without a word.
    except (Exception, SystemExit) as error:
        text = f"{type(error).__name__}: {error}".rstrip(": ").replace("\n", " ")
        raise LoadError(f"--app {source} cannot be imported: {text}{place_of(error, source.folder)}") from error


def place_of(error: BaseException, folder: Path) -> str:
    """Return where an import failed: the last line of the application's own files, or else of any file."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    frames = [frame for frame in frames if frame.filename != __file__]
    for frame in reversed(own or frames):
        return f" ({frame.filename}, line {frame.lineno})"
    return ""


def interface_of(application: Callable[..., Any], source: Source) -> str:
    """Return `wsgi` or `asgi`, as `--interface` says or the signature shows. Raises `LoadError` where neither does."""
    if source.interface != "auto":
        return source.interface
    is_coroutine = inspect.iscoroutinefunction(application) or (
        not isinstance(application, type) and inspect.iscoroutinefunction(getattr(application, "__call__", None))  # noqa: B004
    )
    if is_coroutine and takes(application, 3):
        return ASGI
    if not is_coroutine and takes(application, 2):
        return WSGI
    raise LoadError(
        f"--app {source} takes neither (environ, start_response), as WSGI does, nor, as a coroutine, "
        "(scope, receive, send), as ASGI 3 does: give an application, or say which it is with --interface"
    )


def takes(function: Callable[..., Any], number: int) -> bool:
    """Return whether the function can be called with so many positional arguments."""
    try:
        inspect.signature(function).bind(*range(number))
    except (TypeError, ValueError):
        return False
    return True
