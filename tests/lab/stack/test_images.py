"""Images that are pinned: the same in every place, and the day on which their support ends beside each."""

from __future__ import annotations

import re
import warnings
from datetime import date, timedelta

import pytest

from lab import settings

PLACES = ("docker-compose.yml", "provisioning/group_vars/containers.yml")
PIN = re.compile(r"Supported until (\d{4}-\d\d-\d\d)\.\n.*?\b((?:prom|grafana)/[a-z]+:v?\d+\.\d+\.\d+)\b")
IMAGE = re.compile(r"\b(?:prom|grafana)/[a-z]+:v?\d[\w.]*")
NOTICE = timedelta(days=60)


class SupportWarning(UserWarning):
    """An image is to be replaced: a newer version, in every place, with the day on which its own support ends."""


def pins(place: str) -> dict[str, date]:
    """Each image that stands there with a day, and the day."""
    text = (settings.CHECKOUT / place).read_text()
    return {image: date.fromisoformat(day) for day, image in PIN.findall(text)}


def remind(image: str, ends: date, today: date) -> None:
    """Warn where support ends within `NOTICE`. Not a failure: a checkout must not break because time passes."""
    if ends - today <= NOTICE:
        warnings.warn(f"{image}: support ends on {ends}; pin a newer version", SupportWarning, stacklevel=2)


@pytest.mark.parametrize("place", PLACES)
def test_every_image_has_a_day_beside_it(place):
    assert set(IMAGE.findall((settings.CHECKOUT / place).read_text())) == pins(place).keys()
    assert {image.partition(":")[0] for image in pins(place)} == {"prom/prometheus", "grafana/grafana"}


def test_places_have_the_same_images_and_days():
    assert pins(PLACES[0]) == pins(PLACES[1])


@pytest.mark.parametrize(("image", "ends"), pins(PLACES[0]).items())
def test_image_is_supported(image, ends):
    remind(image, ends, date.today())


@pytest.mark.parametrize(("days_left", "warned"), [(61, 0), (60, 1), (0, 1), (-30, 1)])
def test_warning_comes_sixty_days_before(days_left, warned):
    ends = date(2027, 7, 31)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        remind("some/image:1.0.0", ends, ends - timedelta(days=days_left))
    assert len(caught) == warned
