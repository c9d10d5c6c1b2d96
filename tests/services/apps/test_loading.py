"""An application of one's own: found without an import, imported, told apart; and what is wrong said in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from services.apps.loading import ASGI, WSGI, LoadError, load, source_of

MODULE = """
import functools
def wsgi(environ, start_response): ...
def any_arguments(*arguments): ...
async def asgi(scope, receive, send): ...
class Asgi:
    async def __call__(self, scope, receive, send): ...
class Wsgi:
    def __call__(self, environ, start_response): ...
    def method(self, environ, start_response): ...
class Iterable:
    def __init__(self, environ, start_response): ...
object_of_asgi, object_of_wsgi = Asgi(), Wsgi()
partial = functools.partial(lambda extra, environ, start_response: ..., 1)
partial_asgi = functools.partial(asgi)
def factory(): ...
def wrapped_asgi(scope, receive, send): return asgi(scope, receive, send)
async def two(scope, receive): ...
number = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch) -> str:
    """A module that no other test has imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    yield name
    sys.modules.pop(name, None)


def options(spec: str, folder: Path, **given: str) -> dict[str, str]:
    return {"app": spec, "app_dir": str(folder), "interface": "auto", "protocol": "auto", **given}


@pytest.mark.parametrize(
    ("attribute", "interface"),
    [
        ("wsgi", WSGI), ("any_arguments", WSGI), ("object_of_wsgi", WSGI), ("object_of_wsgi.method", WSGI),
        ("Iterable", WSGI), ("partial", WSGI), ("asgi", ASGI), ("object_of_asgi", ASGI), ("partial_asgi", ASGI),
    ],
)  # fmt: skip
def test_interface_is_told_by_the_signature(module, tmp_path, attribute, interface):
    assert load(source_of(options(f"{module}:{attribute}", tmp_path))).interface == interface


@pytest.mark.parametrize("attribute", ["factory", "wrapped_asgi", "two", "Asgi"])
def test_other_signature_is_refused_unless_the_interface_is_said(module, tmp_path, attribute):
    with pytest.raises(LoadError, match="say which it is with --interface"):
        load(source_of(options(f"{module}:{attribute}", tmp_path)))
    assert load(source_of(options(f"{module}:{attribute}", tmp_path, interface="asgi"))).interface == ASGI


@pytest.mark.parametrize(
    ("attribute", "text"),
    [("nothing", "there is no 'nothing' in own_"), ("number", "of type int, which cannot be called")],
)
def test_attribute_that_cannot_be_called_is_refused(module, tmp_path, attribute, text):
    with pytest.raises(LoadError, match=text):
        load(source_of(options(f"{module}:{attribute}", tmp_path)))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1\n\nx / 0\n", r"ZeroDivisionError: division by zero \(.*own_.*\.py, line 3\)"),
        (
            "import no_such_package\n",
            r"ModuleNotFoundError: No module named 'no_such_package' \(.*own_.*\.py, line 1\)",
        ),
        ("def f(:\n", r"SyntaxError: .*\(.*own_.*\.py, line 1\)"),
        ("import json\njson.loads('{')\n", r"JSONDecodeError: .*\(.*own_.*\.py, line 2\)"),
        ("raise SystemExit(3)\n", r"SystemExit: 3 \(.*own_.*\.py, line 1\)"),
        ("raise ValueError('two\\nlines')\n", r"ValueError: two lines \(.*own_.*\.py, line 1\)"),
    ],
)
def test_failing_import_names_exception_and_line(module, tmp_path, source, text):
    (tmp_path / f"{module}.py").write_text(source)
    with pytest.raises(LoadError, match=text) as refused:
        load(source_of(options(f"{module}:app", tmp_path)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("shop", "give MODULE:ATTRIBUTE"), ("shop:", "give MODULE:ATTRIBUTE"), ("shop:app()", "give MODULE:ATTRIBUTE"),
        ("../shop:app", "give MODULE:ATTRIBUTE"), ("no_such_module:app", "no module 'no_such_module' is in"),
        ("services:app", "the lab has a package 'services' itself"),
    ],
)  # fmt: skip
def test_bad_source_is_refused_without_an_import(tmp_path, spec, text):
    with pytest.raises(LoadError, match=text):
        source_of(options(spec, tmp_path))


def test_folder_and_protocol_are_checked(tmp_path):
    with pytest.raises(LoadError, match="there is no such folder"):
        source_of(options("shop:app", tmp_path / "nowhere"))
    with pytest.raises(LoadError, match="speaks HTTP only"):
        source_of(options("json:loads", tmp_path, protocol="memcache"))


def test_looking_for_a_package_runs_nothing_of_it(tmp_path):
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("1 / 0\n")
    assert str(source_of(options("own_package.deep:app", tmp_path))) == "own_package.deep:app"
    assert "own_package" not in sys.modules


def test_without_an_application_it_is_the_built_in_one(tmp_path):
    assert source_of(options("", tmp_path)) is None
