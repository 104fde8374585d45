"""What TensorFlow says in its log."""

import contextlib
import logging


@contextlib.contextmanager
def few_warnings():
    """Only errors: work that makes many models is warned of functions that are traced again and again."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
