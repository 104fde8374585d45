"""What TensorFlow may say while many models are made."""

import logging

import pytest

from pane_keras import backend


def broken(logger):
    with backend.few_warnings():
        logger.warning("traced again")
        logger.error("broken")
        raise ZeroDivisionError


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_warnings_are_kept_back_and_then_let_through_again(level, caplog):
    logger = logging.getLogger("tensorflow")
    logger.addHandler(caplog.handler)
    before = logger.level
    logger.setLevel(level)
    try:
        with pytest.raises(ZeroDivisionError):
            broken(logger)
        assert logger.level == level
        logger.warning("after it")
    finally:
        logger.setLevel(before)
        logger.removeHandler(caplog.handler)
    messages = {record.message for record in caplog.records}
    assert messages == {"broken", "after it"}
