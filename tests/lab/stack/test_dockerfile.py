"""The Dockerfile: what is read there by a user who is nobody, whatever the modes of the checkout."""

from __future__ import annotations

import re

from lab import settings

STAGES = {
    name: body.splitlines()
    for name, body in re.findall(
        r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)",
        (settings.CHECKOUT / "Dockerfile").read_text(),
        re.MULTILINE | re.DOTALL,
    )
}
RUN_BY_NOBODY = ("services", "lab")


def copied(stage: str) -> list[str]:
    """What a stage takes from the checkout."""
    lines = [line for line in STAGES[stage] if line.startswith("COPY ") and "--from=" not in line]
    return [word for line in lines for word in line.split()[1:-1]]


def test_images_take_the_code_from_the_stage_that_everybody_may_read():
    for stage in RUN_BY_NOBODY:
        assert copied(stage) == [], f"COPY keeps the modes of the checkout: {stage} takes it --from=sources"
        assert [line for line in STAGES[stage] if line.startswith("COPY --from=sources ")]


def test_stage_of_the_code_opens_it_after_it_was_copied():
    instructions = [line for line in STAGES["sources"] if line and not line.startswith("#")]
    assert copied("sources") == ["services", "loadtests", "lab"]
    assert instructions[0] == "USER root"
    assert instructions[-1] == "RUN chmod -R a+rX,go-w ."
