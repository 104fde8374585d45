"""What the options of the command take: functions of a text that return its value or say what was expected."""

import argparse
import math
import re

_LISTS = ("--scale", "--offset", "--black", "--unit")


def unit(text):
    """Returns the indices in a text such as "7,7,40" as a tuple of ints."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers such as 7,7,40. Received: {text!r}") from None


def numbers(text):
    """Returns one finite number, or a list of those between commas."""
    found = [_number(part) for part in text.split(",")]
    return found if len(found) > 1 else found[0]


def positive(text):
    """Returns a whole number of at least 1."""
    return _whole(text, 1)


def natural(text):
    """Returns a whole number of at least 0."""
    return _whole(text, 0)


def limits(text):
    """Returns {name: whole number of at least 1} of a text such as "score-cam=20,randomisation=10"."""
    pairs = [part.rpartition("=") for part in text.split(",")]
    if not all(equals and name.strip() for name, equals, _ in pairs):
        raise argparse.ArgumentTypeError(f"expected numbers such as score-cam=20. Received: {text!r}")
    return {name.strip(): positive(number) for name, _, number in pairs}


def joined(arguments):
    """Returns the arguments with "--offset -1,0,2" as "--offset=-1,0,2".

    Only a single plain number may start with a minus in argparse; it takes a list for an option.
    """
    result = []
    for argument in arguments:
        if result and result[-1] in _LISTS and re.match(r"-[0-9.]", argument):
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result


def _number(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a finite number. Received: {text!r}")
    return number


def _whole(text, least):
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}. Received: {text!r}")
    return number
