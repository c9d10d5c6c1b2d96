"""syn-queue-overflow: how many half-open connections a kernel has room for."""

import pytest

from lab.experiments.syn_queue_overflow import BACKLOG, least_room


@pytest.mark.parametrize(
    ("kernel", "room"),
    [
        ("6.18.44-lab", BACKLOG + 1),
        ("6.14", BACKLOG + 1),
        ("7.0.1", BACKLOG + 1),
        ("6.8.0-31-generic", BACKLOG),
        ("5.15.0", BACKLOG),
    ],
)
def test_room_of_a_kernel(kernel, room):
    assert least_room(kernel) == room
