"""The judges of single experiments: figures in, verdict out."""

import pytest

from lab.experiments import accept_queue_overflow as accept_queue
from lab.experiments import copy_on_write, idempotent_retries, process_or_thread, slow_reader_client, slow_reader_server
from lab.measure.experiment import Arm, ArmResult, Observation, Quantity


def results(**arms):
    """Of each arm, a list of trials; a trial is its metrics by name."""
    return {
        name: ArmResult(Arm(name), [Observation({n: Quantity(v) for n, v in trial.items()}) for trial in trials])
        for name, trials in arms.items()
    }


def workers(going_on, rate, in_line=0.05, *, gil=1):
    metrics = {process_or_thread.HAS_GIL: gil}
    for work in ("hold", "hold-c", "release"):
        metrics |= {
            f"{work}: {process_or_thread.GOING_ON}": going_on,
            f"{work}: {process_or_thread.IN_LINE}": in_line,
            f"{work}: rate": rate,
        }
    return [metrics]


PROCESSES = workers(2, 370)
SHORT_OF_CORES = 0.5


@pytest.mark.parametrize(
    ("threads", "processes", "holds"),
    [
        pytest.param(workers(1.05, 195), PROCESSES, True, id="one at a time"),
        pytest.param(workers(2, 370), PROCESSES, False, id="both"),
        pytest.param(workers(1.05, 360), PROCESSES, False, id="as fast as processes"),
        pytest.param(workers(1.05, 195), workers(1.05, 195), False, id="processes no better"),
        pytest.param(
            workers(1.05, 190), workers(2, 200, SHORT_OF_CORES), True, id="rates do not tell on a busy machine"
        ),
        pytest.param(workers(1.5, 190, SHORT_OF_CORES), PROCESSES, None, id="a busy machine does not tell"),
        pytest.param(workers(2, 190, SHORT_OF_CORES), PROCESSES, False, id="clearly both, however busy"),
        pytest.param(workers(2, 370, gil=0), PROCESSES, True, id="no GIL, both"),
        pytest.param(workers(1.05, 195, gil=0), PROCESSES, False, id="no GIL, one at a time"),
    ],
)
def test_threads_that_hold_the_gil(threads, processes, holds):
    judge = process_or_thread.one_at_a_time("hold", "").judge
    assert judge(results(threads=threads, processes=processes)).holds is holds


def test_rates_of_calibrated_work_are_not_judged():
    figures = results(threads=workers(1.05, 300), processes=PROCESSES)
    assert process_or_thread.one_at_a_time("hold-c", "").judge(figures).holds is True


@pytest.mark.parametrize(
    ("threads", "holds"),
    [
        pytest.param(workers(1.98, 365), True, id="both"),
        pytest.param(workers(1.05, 195), False, id="one at a time"),
        pytest.param(workers(1.98, 195), False, id="half as fast"),
        pytest.param(workers(1.98, 195, SHORT_OF_CORES), True, id="half as fast, with half of the cores"),
        pytest.param(workers(1.5, 195, SHORT_OF_CORES), None, id="a busy machine does not tell"),
    ],
)
def test_threads_that_release_the_gil(threads, holds):
    assert process_or_thread.both_released(results(threads=threads, processes=PROCESSES)).holds is holds


def late(first, last, predicted=5):
    return {"first late connect": first, "last late connect": last, "predicted": predicted}


@pytest.mark.parametrize(
    ("trials", "holds"),
    [
        pytest.param([late(5.01, 5.02)], True, id="on the step"),
        pytest.param([late(4.6, 5.02)], False, id="one as soon as there is room"),
        pytest.param([late(5.01, 5.6)], False, id="one later than a tenth"),
        pytest.param([late(5.01, 5.02), late(7.01, 7.02)], False, id="one trial on another step"),
    ],
)
def test_late_clients_connect_on_the_step(trials, holds):
    assert accept_queue.on_the_step(results(arm=trials)).holds is holds


@pytest.mark.parametrize(
    ("to_ack", "to_syn", "holds"),
    [
        pytest.param({"abort": 1, "backlog 4": 0}, 0, True, id="the ACK, in its arm"),
        pytest.param({"abort": 0, "backlog 4": 0}, 0, False, id="never"),
        pytest.param({"abort": 1, "backlog 4": 1}, 0, False, id="in another arm, too"),
        pytest.param({"abort": 1, "backlog 4": 0}, 1, False, id="a SYN"),
    ],
)
def test_abort_answers_the_ack(to_ack, to_syn, holds):
    arms = {name: [{"RST to ACK": value, "RST to SYN": to_syn}] for name, value in to_ack.items()}
    assert accept_queue.aborts_the_ack_only(results(**arms)).holds is holds


def snapshot(same, changed, meanwhile):
    return {copy_on_write.OF_THE_FORK: same, copy_on_write.CHANGED: changed, copy_on_write.MEANWHILE: meanwhile}


@pytest.mark.parametrize(
    ("trials", "holds"),
    [
        pytest.param([snapshot(1, 1, 900)], True, id="of the fork"),
        pytest.param([snapshot(0, 1, 900)], False, id="of a later moment"),
        pytest.param([snapshot(1, 0, 900)], False, id="nothing has changed"),
        pytest.param([snapshot(1, 1, 0)], None, id="nobody wrote while it read"),
        pytest.param([snapshot(1, 1, 900), snapshot(0, 1, 900)], False, id="one trial of a later moment"),
        pytest.param([snapshot(1, 1, 900), snapshot(1, 1, 0)], None, id="nobody wrote in one trial"),
    ],
)
def test_snapshot_is_of_the_fork(trials, holds):
    assert copy_on_write.of_the_fork(results(**{"128 MiB": trials})).holds is holds


def crowd(effects, waiting=0, refused=0, meanwhile=0):
    return {
        idempotent_retries.EFFECTS: effects,
        idempotent_retries.TOLD_TO_WAIT: waiting,
        idempotent_retries.REFUSED: refused,
        "duplicated, retries meanwhile": meanwhile,
    }


@pytest.mark.parametrize(
    ("arm", "trial", "unprotected", "holds"),
    [
        pytest.param("upsert", crowd(1), crowd(8), True, id="one effect of many at once"),
        pytest.param("upsert", crowd(2), crowd(8), False, id="two effects"),
        pytest.param("upsert", crowd(1, refused=1), crowd(8), False, id="one refused"),
        pytest.param("upsert", crowd(1), crowd(1), None, id="they did not meet"),
        pytest.param("idempotency-key", crowd(1, waiting=87), crowd(8), True, id="the others told to wait"),
        pytest.param("idempotency-key", crowd(1), crowd(8), None, id="nobody told to wait"),
    ],
)
def test_one_effect_of_a_crowd(arm, trial, unprotected, holds):
    figures = results(**{arm: [trial], "request-id": [unprotected]})
    assert idempotent_retries.one_effect(arm)(figures).holds is holds


@pytest.mark.parametrize(
    ("trial", "holds"),
    [
        pytest.param(crowd(8, meanwhile=34), True, id="both"),
        pytest.param(crowd(8), False, id="only of the crowd"),
        pytest.param(crowd(1, meanwhile=34), False, id="none of the crowd"),
    ],
)
def test_duplicates_slip_through_request_id(trial, holds):
    assert idempotent_retries.slips_through(results(**{"request-id": [trial]})).holds is holds


def test_operations_are_compared_with_what_workers_say():
    seen = {
        "/fine": {"fault": "cut", "faults": 1, "applied": {"a": 1}},
        "/twice": {"fault": "cut", "faults": 1, "applied": {"b": 1}},
        "/unknown-to-one": {"fault": "repeat", "faults": 1, "applied": {"c": 2}},
    }
    effects = {
        "/fine": idempotent_retries.Effects(1, 1),
        "/twice": idempotent_retries.Effects(2, 2),
        "/unknown-to-one": idempotent_retries.Effects(1, 0),
    }
    metrics = {name: figure.value for name, figure in idempotent_retries.compared(seen, effects).metrics.items()}
    assert (metrics["duplicated, retries later"], metrics["lost, retries later"]) == (1, 0)
    assert (metrics["duplicated, retries meanwhile"], metrics["lost, retries meanwhile"]) == (0, 1)
    assert (metrics["faults, retries later"], metrics["faults, retries meanwhile"]) == (2, 1)


def others(p99, p50=40):
    return {"p99": p99, "p50": p50}


ALONE = [others(p99) for p99 in (41.0, 41.5, 42.0, 42.5, 43.0)]


@pytest.mark.parametrize(
    ("alone", "beside", "holds"),
    [
        pytest.param(ALONE, ALONE, True, id="the same"),
        pytest.param(ALONE, [others(120, 80) for _ in ALONE], False, id="much later"),
        pytest.param(ALONE, [others(trial["p99"], 42) for trial in ALONE], None, id="a later middle, spreads overlap"),
        pytest.param([others(80)] * 5, [others(41)] * 5, None, id="quicker than alone"),
        pytest.param([others(41)], [others(60)], None, id="a little later, and one pair only"),
    ],
)
def test_others_are_unhurt(alone, beside, holds):
    assert slow_reader_client.unhurt(results(alone=alone, beside=beside)).holds is holds


@pytest.mark.parametrize(("beside", "holds"), [(1.5, True), (60.0, False)])
def test_the_loop_sleeps(beside, holds):
    figures = results(alone=[{slow_reader_client.CPU: 1.0}], beside=[{slow_reader_client.CPU: beside}])
    assert slow_reader_client.idle(figures).holds is holds


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
    figures = results(slow=[{slow_reader_server.TAKEN: taken, slow_reader_server.READ: read}])
    assert slow_reader_server.one_pace(figures).holds is holds
