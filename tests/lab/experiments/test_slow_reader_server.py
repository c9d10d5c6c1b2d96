"""A server that reads slowly: what both paces come to."""

import pytest
from support.results import arms

from lab.experiments import slow_reader_server


@pytest.mark.parametrize(
    ("taken", "read", "holds"),
    [
        pytest.param(188_000, 195_000, True, id="as told"),
        pytest.param(400_000, 400_000, False, id="both faster than told"),
        pytest.param(235_000, 165_000, False, id="not as fast as the server reads"),
        pytest.param(200_000, 0, False, id="the server reads nothing"),
    ],
)
def test_client_and_server_have_one_pace(taken, read, holds):
    figures = arms(slow=[{slow_reader_server.TAKEN: taken, slow_reader_server.READ: read}])
    assert slow_reader_server.one_pace(figures).holds is holds
