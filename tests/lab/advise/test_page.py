"""The page that leads from symptoms to models names only what there is."""

from __future__ import annotations

import re

import pytest

from lab.experiments import all_experiments
from lab.settings import CHECKOUT
from services.options import MODELS

PAGE = (CHECKOUT / "docs" / "choosing.md").read_text(encoding="utf-8")
EXPOSITION = "\n".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "services" / "metrics").glob("*.py"))


def test_experiments_exist():
    named = set(re.findall(r"`lab run ([\w-]+)`", PAGE))
    assert named
    assert named <= {each.name for each in all_experiments()}


@pytest.mark.parametrize("metric", sorted(set(re.findall(r"`lab_(\w+)`", PAGE))))
def test_metrics_exist(metric):
    assert re.search(rf'"(lab_)?{metric.removesuffix("_total")}(_total)?"', EXPOSITION)


def test_wakeups_are_options_of_nginx():
    (wakeup,) = [option for option in MODELS["nginx"].options if option.name == "wakeup"]
    assert set(re.findall(r"--wakeup ([\w-]+)", PAGE)) <= set(wakeup.choices)
