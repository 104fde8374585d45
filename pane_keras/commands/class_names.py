"""What classes are called."""

from pathlib import Path

from pane_keras.demo.labels import class_names as imagenet_names
from pane_keras.errors import LoadError
from pane_keras.loading import is_imagenet


def class_names(arguments):
    """Returns the names of a model's classes in its order, or None where nobody said.

    Args:
        arguments: The parsed arguments `model` and `classes`.

    Raises:
        LoadError: The file of `--classes` cannot be read.
    """
    if arguments.classes is None:
        return imagenet_names() if is_imagenet(arguments.model) else None
    try:
        return tuple(Path(arguments.classes).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(
            f"Cannot read the classes in {str(arguments.classes)!r}: {getattr(error, 'strerror', error)}."
        ) from None


def named(k, names):
    """Returns "class 285 (Egyptian cat)", or without the name where there is none."""
    return f"class {k} ({names[k]})" if names and k < len(names) else f"class {k}"
