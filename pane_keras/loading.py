"""Loads a user's model in Keras's safe mode: no code that a file carries is run."""

from pathlib import Path

from pane_keras.errors import LoadError


def load_model(path):
    """Returns the model in a `.keras` file, or an architecture of `keras.applications` with its ImageNet weights.

    Args:
        path: The file, or the name of the architecture, such as "ResNet50".

    Raises:
        LoadError: No such file, not a model that loads in safe mode, or weights that cannot be downloaded.
    """
    import keras

    path = Path(path)
    if not path.exists() and callable(build := getattr(keras.applications, str(path), None)):
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
