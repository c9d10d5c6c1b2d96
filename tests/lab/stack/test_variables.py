"""Options in Ansible's variables are held against the servers' own table."""

from __future__ import annotations

import pytest
import yaml

from lab.stack import playbook
from lab.stack.variables import faults


def test_variables_as_shipped_are_right():
    shipped = yaml.safe_load((playbook.PROVISIONING / "group_vars" / "all.yml").read_text())
    assert list(faults(shipped["lab_server_options"], shipped["lab_model_options"])) == []


@pytest.mark.parametrize(
    ("server", "models"),
    [({"workers": 2, "require-key": True}, {"nginx": {"worker-kind": "thread"}}), ({"drain": "2.5"}, {"nodejs": {"cluster": 2}})],
)  # fmt: skip
def test_right_options_have_no_faults(server, models):
    assert list(faults(server, models)) == []


@pytest.mark.parametrize(
    ("server", "models", "words"),
    [
        ({"workers": 0}, {}, "workers: 0"),
        ({"colour": "red"}, {}, "'colour'"),
        ({"metrics": True}, {}, "quotes"),
        ({}, {"memcached": {"wakeup": "herd"}}, "memcached: no option is called 'wakeup'"),
        ({}, {"nodejs": {"worker-kind": "thread"}}, "nodejs takes process"),
        ({}, {"apache": {}}, "'apache'"),
    ],
)
def test_each_fault_is_told_once(server, models, words):
    (line,) = faults(server, models)
    assert words in line
