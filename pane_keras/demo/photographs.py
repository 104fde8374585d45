"""The demo's photographs, which scikit-image carries (both CC0)."""

from pane_keras.errors import LoadError
from pane_keras.extras import needed
from pane_keras.pictures import cropped

PHOTOGRAPHS = ("chelsea", "coffee")


def photograph(name, size=224):
    """Returns a photograph of the demo: the square in its middle, resized.

    Args:
        name: "chelsea", a cat, or "coffee", a cup of it.
        size: Height and width of the result.

    Returns:
        uint8 array (size, size, 3).

    Raises:
        LoadError: There is no such photograph.
        MissingExtraError: scikit-image is not installed.
    """
    if name not in PHOTOGRAPHS:
        raise LoadError(f"The demo has no photograph {name!r}. It has {' and '.join(PHOTOGRAPHS)}.")
    data = needed("skimage.data", "scikit-image", "demo")
    return cropped(getattr(data, name)(), size)
