"""Which pixels of a sample: its map put in order, and regions of a size cut off the ends of that order."""

from dataclasses import dataclass

import numpy as np

from pane_keras.errors import InputError
from pane_keras.evaluation.checks import chosen_from

BY = ("value", "absolute", "contribution")
COUNT = ("pixels", "elements")
WHERE = ("top", "bottom", "nearest_zero")


@dataclass(frozen=True)
class Ranking:
    """How the entries of a map are put in order within their sample.

    Attributes:
        by: "value": the coefficient c; "absolute": |c|; "contribution": c x, coefficient times signal, which unlike c
            does not carry the sign of the pixel.
        count: "pixels": positions (height, width) are counted and whole pixels are chosen. What is ranked is the sum
            over the channels of c, |c| or c x, in this order: each entry by itself first, then the sum. "elements":
            positions (height, width, channel) are counted and chosen one by one.
        ties: None: of equal entries the one at the lower flat position comes first, rows before columns before
            channels, whichever end is asked for. An int: in a random order of the positions that this seed gives, the
            same for all samples. It matters for maps with many zeros, of which a plain order would take the upper rows.
    """

    by: str = "value"
    count: str = "pixels"
    ties: int | None = None

    def __post_init__(self):
        chosen_from(self.by, BY, "by")
        chosen_from(self.count, COUNT, "count")
        if self.ties is not None and (not isinstance(self.ties, (int, np.integer)) or self.ties < 0):
            raise InputError(f"Expected ties to be None or an int of at least 0. Received: {self.ties!r}.")

    def scores(self, maps, images):
        """Returns what is ranked, float64: (n, height, width), or (n, height, width, channels) for elements.

        Only the order within a sample has a meaning: each sample's map is first divided by a power of two, so that
        neither products nor sums overflow.

        Args:
            maps: Finite array (n, height, width, channels or 1).
            images: Array (n, height, width, channels).

        Raises:
            InputError: The map has one channel and the images have more, and entries of channels are needed.
        """
        self._check_channels(maps, images)
        scores = _scaled(maps)
        if self.by == "absolute":
            scores = np.abs(scores)
        elif self.by == "contribution":
            scores = scores * images.astype("float64")
        return scores.sum(axis=-1) if self.count == "pixels" else scores

    def size(self, images):
        """Returns how many positions of a sample are counted."""
        return int(np.prod(images.shape[1 : 3 if self.count == "pixels" else 4]))

    def regions(self, maps, images, where, sizes):
        """Yields for each size which entries of the images are chosen, booleans that broadcast to the images.

        Args:
            maps, images: As for `scores`.
            where: "top": largest scores; "bottom": smallest, the most negative ones; "nearest_zero": smallest absolute
                scores.
            sizes: How many positions the region has; `region_size` makes them of percents.

        Raises:
            InputError: As `scores`, or an unknown `where`.
        """
        scores = self.scores(maps, images)
        keys = _keys(scores.reshape(len(scores), self.size(images)), where)
        places = _places(keys, self._positions(keys.shape[1]))
        shape = (*scores.shape, 1) if self.count == "pixels" else scores.shape
        for size in sizes:
            yield (places < size).reshape(shape)

    def _positions(self, size):
        return np.arange(size) if self.ties is None else np.random.default_rng(self.ties).permutation(size)

    def _check_channels(self, maps, images):
        needs = self.count == "elements" or self.by == "contribution"
        if needs and maps.shape[-1] != images.shape[-1]:
            word = "count='elements'" if self.count == "elements" else "by='contribution'"
            raise InputError(
                f"{word} needs maps with the channels of the images, {images.shape}. Received: maps of shape "
                f"{maps.shape[:3]}, one number a pixel. Rank them with by='value', count='pixels'."
            )


def region_size(percent, count):
    """Returns how many of `count` positions some percent are: the nearest whole number, halves up, and at least 1."""
    return max(1, int(np.floor(percent / 100 * count + 0.5)))


def _scaled(maps):
    """Each sample divided by the power of two above its largest entry."""
    maps = np.asarray(maps, "float64")
    _, exponents = np.frexp(np.abs(maps).max(axis=(1, 2, 3), keepdims=True))
    return np.ldexp(maps, -exponents)


def _keys(scores, where):
    """What is sorted upwards."""
    chosen_from(where, WHERE, "where")
    return {"top": -scores, "bottom": scores, "nearest_zero": np.abs(scores)}[where]


def _places(keys, positions):
    """Place of each position in the order of its sample; equal keys in the order in which `positions` has them."""
    order = positions[np.argsort(keys[:, positions], axis=1, kind="stable")]
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(keys.shape[1])[None], axis=1)
    return places
