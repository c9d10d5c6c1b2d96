"""A model that counts nothing of its requests: `python -m lab.bench.without_counters MODEL [options]`.

A server always counts; `--metrics off` leaves out the admin port only. To tell what counting costs, it has to be
compared with a server that does not, which is none of the server's business: so the statements that count are left out
of its code here, as its modules are loaded. That costs the request nothing, where methods put in place of others would
still be called, and slots that ignore what is written to them would be slower than the real ones, which are written
in C.

Left out: counts of requests, replies and bytes, busy time, the choice of samples, and their publication. Kept: what
limits need, such as the number of open connections, and the test for a sample, which no request passes, for nothing
counts down to the next one.

Nothing of `services` is imported by name. A statement that is not found is an error: then the server counts in another
way now, and this file has to follow.
"""

from __future__ import annotations

import ast
import runpy
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

COUNTERS = {
    "services.net.connection": frozenset({"gap", "bytes_in", "bytes_out", "codes", "submitted"}),
    "services.net.server_loop": frozenset({"_busy_since_ns", "_publish", "tick"}),
    "services.workers.worker": frozenset({"REQUESTS"}),
    "services.workers.thread": frozenset({"begin_busy", "end_busy"}),
    "services.workers.process": frozenset({"begin_busy", "end_busy"}),
}
"""By module: attributes that are counted in, tested or called by the statements to leave out."""
DECISIVE = frozenset({"gap"})
"""Of them, those on which it depends how a request is received."""
LEFT_OUT = ast.Pass()
WITHOUT_SAMPLES = ("--sample-rate", "1000000000")


class LeaveOut(ast.NodeTransformer):
    """Leaves out statements about the attributes `names`; `found` are those that there were."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.found: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Attributes still get their first values."""
        return node if node.name == "__init__" else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        """A test of a counter goes with all that depends on it; one of DECISIVE stays."""
        return LEFT_OUT if self._about(node.test, self._names - DECISIVE) else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """An assignment to a counter."""
        return LEFT_OUT if any(self._about(target, self._names) for target in node.targets) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """An addition to a counter."""
        return LEFT_OUT if self._about(node.target, self._names) else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """A call."""
        return LEFT_OUT if isinstance(node.value, ast.Call) and self._about(node.value.func, self._names) else node

    def _about(self, node: ast.AST, names: frozenset[str]) -> bool:
        mentioned = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)} & names
        self.found |= mentioned
        return bool(mentioned)


def without(source: str | bytes, path: str, names: frozenset[str]) -> CodeType:
    """The code of a module without its statements about `names`. Raises ImportError where one is about none."""
    leave_out = LeaveOut(names)
    tree = ast.fix_missing_locations(leave_out.visit(ast.parse(source, path)))
    missing = names - leave_out.found
    if missing:
        raise ImportError(
            f"{path} does not count by {', '.join(sorted(missing))}: lab/bench/without_counters.py is to follow"
        )
    code: CodeType = compile(tree, path, "exec")
    return code


class UnwatchedLoader(SourceFileLoader):
    """Loads a module without its counters, and never from a cache, nor into one."""

    def get_code(self, fullname: str) -> CodeType:
        """Its code, made anew."""
        path = self.get_filename(fullname)
        return without(self.get_data(path), path, COUNTERS[fullname])


class UnwatchedFinder(MetaPathFinder):
    """Finds the modules that count."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual module with our loader; None for all other modules."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in COUNTERS else None
        if spec and spec.origin:
            spec.loader = UnwatchedLoader(fullname, spec.origin)
        return spec


def main() -> None:
    """Start the server in this process."""
    sys.meta_path.insert(0, UnwatchedFinder())
    sys.argv += WITHOUT_SAMPLES
    runpy.run_module("services", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
