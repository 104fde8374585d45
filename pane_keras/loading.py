"""Loads a user's model in Keras's safe mode: no code that a file carries is run."""

from pathlib import Path

from pane_keras.errors import LoadError

DEMO = "demo"
"""Names the network that `pane-keras demo` explains."""


def load_model(path):
    """Returns the model in a `.keras` file, or an architecture of `keras.applications` with its ImageNet weights.

    Args:
        path: The file, the name of the architecture, such as "ResNet50", or `DEMO`: EfficientNet-Lite0, with ImageNet
            weights that are there already where the extra `demo` is installed.

    Raises:
        MissingExtraError: The weights of `DEMO` are not installed.
        LoadError: No such file, not a model that loads in safe mode, or weights that cannot be downloaded.
    """
    import keras

    path = Path(path)
    if _is_demo(path):
        return _demo_network()
    if build := _architecture(path):
        return _with_imagenet_weights(str(path), build)
    if not path.is_file():
        raise LoadError(f"No model at {str(path)!r}: {'it is no file' if path.exists() else 'no such file'}.")
    # Older versions of Keras ignore the safe mode for HDF5 files, which can carry code.
    if path.suffix != ".keras":
        raise LoadError(
            f"Expected a model in Keras's own format, with the ending .keras. Received: {path.name!r}. "
            'Load it where you trust it and save it again: model.save("model.keras").'
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises anything from KeyError to BadZipFile here
        raise LoadError(f"{str(path)!r} is not a model that Keras loads in safe mode: {_short(error)}") from None


def preprocessing_of(path):
    """Returns what an architecture of `keras.applications` was trained on, as (function of pixels 0 to 255, module).

    Args:
        path: As for `load_model`; a file says nothing of it: (None, None).
    """
    import keras

    build = _architecture(Path(path))
    name = build and build.__module__.rpartition(".")[2]
    function = getattr(getattr(keras.applications, name or "", None), "preprocess_input", None)
    return (function, f"keras.applications.{name}") if function else (None, None)


def is_imagenet(path):
    """Returns whether `load_model` gives a network of ImageNet's 1000 classes; of a file nobody knows."""
    return _is_demo(Path(path)) or _architecture(Path(path)) is not None


def _is_demo(path):
    return str(path) == DEMO and not path.exists()


def _demo_network():
    from pane_keras.demo.efficientnet_lite import efficientnet_lite0

    return efficientnet_lite0()


def _architecture(path):
    import keras

    build = getattr(keras.applications, str(path), None)
    return build if callable(build) and not path.exists() else None


def _with_imagenet_weights(name, build):
    try:
        return build(weights="imagenet")
    except Exception as error:  # the download may fail in any way
        raise LoadError(
            f"The ImageNet weights of {name} could not be loaded: {_short(error)} Where they can be downloaded, save "
            f'the model, keras.applications.{name}().save("{name.lower()}.keras"), and pass that file.'
        ) from None


def _short(error):
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 300 else words[:300] + " ..."
