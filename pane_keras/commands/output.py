"""Where the commands write their figures, and how they put things in words."""

from pathlib import Path

import numpy as np

from pane_keras.errors import SaveError


class OutputFolder:
    """The folder that figures go to; it is made where there is none.

    Args:
        path: The folder.

    Raises:
        SaveError: It cannot be made.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._taken = set()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SaveError(f"Cannot make the folder {str(self.path)!r}: {error.strerror}.") from None

    def file(self, name):
        """Returns the path of a new PNG; pictures of the same name in one run get a number."""
        stem, number = f"{name}_pane", 1
        while stem in self._taken:
            number += 1
            stem = f"{name}_pane_{number}"
        self._taken.add(stem)
        return self.path / f"{stem}.png"


def ranked(scores, count=5):
    """Returns the `count` highest of a vector of scores as (class, score), best first."""
    best = np.argsort(-np.asarray(scores), kind="stable")[:count]
    return [(int(k), float(scores[k])) for k in best]


def verdict(report):
    """Returns the self-check's result in one sentence."""
    return (
        f"self-check {'passed' if report.ok else 'FAILED'}: largest residual {report.max_residual:.1e} "
        f"over {len(report.layers)} layers and end to end (rounding is up to {report.tolerance:.0e})"
    )
