"""Prometheus's text format, as `prometheus_client` reads it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.metrics.exposition import family, histogram, summary


def read(lines):
    (found,) = text_string_to_metric_families("\n".join([*lines, ""]))
    return found


@pytest.mark.parametrize(("name", "kind"), [("lab_things_total", "counter"), ("lab_things", "gauge")])
def test_kind_of_a_family_is_told_by_its_name(name, kind):
    found = read(family(name, "Things.", ("model",), [(("nginx",), 3)]))
    assert (found.type, found.documentation) == (kind, "Things.")
    assert [(sample.name, sample.labels, sample.value) for sample in found.samples] == [(name, {"model": "nginx"}, 3)]


def test_series_without_labels_has_no_braces():
    assert list(family("lab_x", "X.", (), [((), 1)]))[-1] == "lab_x 1"


@pytest.mark.parametrize("value", ["plain", 'with "quotes"', "back\\slash", "two\nlines", '{"a": "\\n"}', "ünïcode"])
def test_value_of_a_label_is_read_as_it_was(value):
    assert read(family("lab_x", "X.", ("y",), [((value,), 1)])).samples[0].labels == {"y": value}


@pytest.mark.parametrize("figure", [0, 1, True, 2**63, 0.1, 1e-9, 1e300, 12345.678])
def test_figure_is_read_as_it_was(figure):
    assert read(family("lab_x", "X.", (), [((), figure)])).samples[0].value == figure


def test_histogram_is_cumulative_and_ends_with_all():
    found = read(histogram("lab_h", "H.", ("m",), [(("a",), (0.001, 0.5), [1, 2, 4], 9.5)]))
    samples = {(sample.name, sample.labels.get("le")): sample.value for sample in found.samples}
    assert found.type == "histogram"
    assert samples == {
        ("lab_h_bucket", "0.001"): 1, ("lab_h_bucket", "0.5"): 3, ("lab_h_bucket", "+Inf"): 7,
        ("lab_h_sum", None): 9.5, ("lab_h_count", None): 7,
    }  # fmt: skip


def test_histogram_needs_a_count_for_each_bound_and_one_more():
    with pytest.raises(ValueError, match="shorter"):
        list(histogram("lab_h", "H.", (), [((), (0.1, 0.2), [1, 2], 0.0)]))


def test_summary_has_sum_and_count_and_no_quantile():
    found = read(summary("lab_s", "S.", ("worker",), [(("0",), 3, 0.75)]))
    assert found.type == "summary"
    assert [(sample.name, sample.value) for sample in found.samples] == [("lab_s_sum", 0.75), ("lab_s_count", 3)]
