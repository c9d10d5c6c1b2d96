"""Ansible's output, for people who want to see the lab and not Ansible: one line for what changed or failed.

On a terminal the name of the task at work is shown too, and overwritten by the next. More detail:
`ansible-playbook` with `ANSIBLE_STDOUT_CALLBACK=default`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ansible import constants
from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.playbook.task import Task

DOCUMENTATION = """
    name: lab_lines
    type: stdout
    short_description: one line for each change or failure
    description: Prints what changed, what failed and why, and a summary.
    extends_documentation_fragment: [result_format_callback]
"""

CLEAR_LINE = "\r\033[K"


class CallbackModule(CallbackBase):
    """Called by ansible-playbook, in its main process."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "lab_lines"

    def __init__(self) -> None:
        super().__init__()
        self._terminal = sys.stdout.isatty()

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool = False) -> None:  # noqa: ARG002
        """Show what is at work; the first minutes of a new machine would be silent otherwise."""
        if self._terminal:
            sys.stdout.write(f"{CLEAR_LINE}  ... {task.get_name()}")
            sys.stdout.flush()

    v2_playbook_on_handler_task_start = v2_playbook_on_task_start

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Say what changed, and what a task has to say."""
        if result.task.action == "ansible.builtin.debug":
            self._line(str(result.result.get("msg", "")), constants.COLOR_WARN)
        elif result.result.get("changed"):
            self._line(f"  {result.task.get_name()}{_where(result)}")
            self._lines_of(result.result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Say what failed, and why in the words of the tool that failed."""
        if not ignore_errors:
            self._line(f"FAILED{_where(result)}: {result.task.get_name()}", constants.COLOR_ERROR)
            self._lines_of(result.result)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Say which host cannot be reached."""
        # ssh says the reason last, behind banners and warnings.
        reasons = [line.strip() for line in str(result.result.get("msg", "")).splitlines() if line.strip()]
        reason = reasons[-1] if reasons else "no reason is given"
        self._line(f"{result.host.get_name()} cannot be reached: {reason}", constants.COLOR_ERROR)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Say in one line how it went."""
        for host in sorted(stats.processed):
            counts = stats.summarize(host)
            shown = " ".join(f"{name}={counts[name]}" for name in ("ok", "changed", "unreachable", "failures"))
            self._line(f"{host}: {shown}")

    def _lines_of(self, result: dict[str, Any]) -> None:
        for line in str(self._text_of(result)).splitlines():
            self._line(f"    {line}")

    def _text_of(self, result: dict[str, Any]) -> object:
        if "actions" in result:  # of Compose, whose own output is JSON
            actions = dict.fromkeys(f"{action['id']}: {action['status'].lower()}" for action in result["actions"])
            return "\n".join(actions) if result.get("changed") and not result.get("failed") else result.get("msg", "")
        # Of a variable of the wrong type: the errors without their heading.
        return (
            "\n".join(result.get("argument_errors", ()))
            or result.get("stdout")
            or result.get("stderr")
            or ("" if result.get("changed") else result.get("msg", ""))
        )

    def _line(self, text: str, color: str | None = None) -> None:
        if self._terminal:
            sys.stdout.write(CLEAR_LINE)
        self._display.display(text, color=color)


def _where(result: CallbackTaskResult) -> str:
    """Which host, where it is not the machine that Ansible runs on."""
    local = result.task.delegate_to == "localhost" or result.host.vars.get("ansible_connection") == "local"
    return "" if local else f" on {result.host.get_name()}"
