"""The loop that removal, logit changes and the guided attack share: change a region of each image, ask the model."""

import numpy as np
from tqdm.auto import tqdm

from pane_keras.evaluation.checks import checked_maps, checked_percents
from pane_keras.evaluation.ranking import region_size


def by_region(images, maps, where, percents, change, ask, *, ranking, batch_size, progress):
    """Returns what `ask` says of each image with each region changed, (n, regions).

    Args:
        images: Array (n, height, width, channels).
        maps: Array (n, height, width[, channels]).
        where: Which end of the ranking, see `Ranking.regions`.
        percents: Sizes of the regions in percent of the positions that the ranking counts.
        change: Function (mask, index) -> the images of a batch, with the entries of the mask changed. The index is
            the batch's slice of the samples.
        ask: Function (changed images, index) -> one number for each image of the batch.
        ranking: A `Ranking`.
        batch_size: Images a batch.
        progress: Whether to show a progress bar.
    """
    maps, percents, rows = checked_maps(maps, images), checked_percents(percents), []
    # On small pictures several percents are the same number of pixels: each number is asked once.
    sizes, column = np.unique([region_size(p, ranking.size(images)) for p in percents], return_inverse=True)
    for start in tqdm(range(0, len(images), batch_size), disable=not progress, unit="batch"):
        index = slice(start, start + batch_size)
        masks = ranking.regions(maps[index], images[index], where, sizes)
        rows.append(np.stack([ask(change(mask, index), index) for mask in masks], axis=1))
    return np.concatenate(rows)[:, column]


def at(values, targets):
    """Returns `values[k, targets[k]]` of an array (n, classes), (n,)."""
    return np.take_along_axis(values, targets[:, None], axis=1)[:, 0]
