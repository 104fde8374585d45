"""All architectures of keras.applications: they wrap, their maps are finite, and their parts add up."""

import applications
import numpy as np
import pytest

import pane_keras


def test_all_forty_are_tried():
    assert len(applications.NAMES) >= 40


@pytest.mark.parametrize("name", applications.NAMES)
def test_application(name):
    model = applications.build(name)
    pictures = applications.photographs(model.input_shape[1])[:2]
    pane = pane_keras.wrap(model)
    assert np.array_equal(pane(pictures), model(pictures))
    trace = pane.trace(pictures)
    report = trace.check()
    assert report.ok, report
    assert report.max_residual < 1e-5
    assert_finite(trace.saliency())


def assert_finite(maps):
    for part in (maps.positive, maps.negative, maps.sum):
        assert np.isfinite(part).all()
        assert np.any(part)
