"""Options in force, as the admin process reads them from the memory that main writes."""

import os

import pytest

from services.metrics.description import MAX_OPTIONS_BYTES, Description, SharedOptions


def describe(in_force=None):
    return Description("nginx", 1, "process", 8000, "127.0.0.1", {"workers": 2}, in_force)


def test_options_are_those_of_the_start_where_none_can_change():
    assert describe().current_options() == {"workers": 2}


def test_options_are_those_that_main_has_written_last():
    in_force = SharedOptions({"workers": 2})
    description = describe(in_force)
    for changed in ({"workers": 3}, {"workers": 12, "wakeup": "herd"}, {"workers": 1}):
        in_force.write(changed)
        assert description.current_options() == changed


def test_options_that_a_process_writes_are_read_by_another():
    in_force = SharedOptions({"workers": 2})
    child = os.fork()
    if not child:
        in_force.write({"workers": 3, "state_dir": "/é/\0"})
        os._exit(0)
    os.waitpid(child, 0)
    assert in_force.read() == {"workers": 3, "state_dir": "/é/\0"}


def test_options_that_are_too_long_leave_the_old_ones():
    in_force = SharedOptions({"workers": 2})
    with pytest.raises(ValueError, match="more than"):
        in_force.write({"host": "x" * MAX_OPTIONS_BYTES})
    assert in_force.read() == {"workers": 2}
