"""event-loop-blocking's own judge, and that what should block does."""

import pytest
from support import results

from lab.experiments import event_loop_blocking
from lab.experiments.event_loop_blocking import CONNECTIONS, MISMATCH, blocked_on
from lab.harness import trial


@pytest.mark.parametrize(
    ("trials", "holds"),
    [
        ([(8, 0), (9, 0)], True),
        ([(1, 0)], True),
        ([(CONNECTIONS - 1, 0)], True),
        ([(0, 0)], False),
        ([(8, 0), (0, 0)], False),
        ([(CONNECTIONS, 0)], False),
        ([(8, 1)], False),
        ([(8, 0), (8, 0), (8, 1)], False),
    ],
)
def test_exactly_its_own_wants_some_and_not_all_and_no_mismatch_in_any_trial(trials, holds):
    figures = [{"delayed": delayed, MISMATCH: mismatch} for delayed, mismatch in trials]
    check = event_loop_blocking.exactly_its_own("nginx")
    assert check.judge(results.trials("nginx", *figures)).holds is holds


class Answers:
    """A connection on which everything is answered at once."""

    def sendall(self, request):
        self.request = request

    def recv(self, size):
        return b"HTTP/1.1 200 OK\r\nX-Worker: 3\r\n\r\n"[:size]


def test_request_that_did_not_block_is_no_trial():
    with pytest.raises(trial.TrialError, match=r"blocks for 0\.7 s was answered after 0\.\d+ s: see"):
        blocked_on(Answers(), 0.7)


def test_request_that_should_not_block_may_be_answered_at_once():
    connection = Answers()
    assert blocked_on(connection, 0) == "3"
    assert connection.request.startswith(b"GET /work?block=0ms ")
