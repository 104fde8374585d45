"""Loads a user's model in Keras's safe mode: no code that a file carries is run."""

from pathlib import Path

from pane_keras.errors import LoadError


def load_model(path):
    """Returns the model in a `.keras` file.

    Args:
        path: The file.

    Raises:
        LoadError: No such file, or not a model that loads in safe mode.
    """
    path = Path(path)
    if not path.is_file():
        raise LoadError(f"No model at {str(path)!r}: {'it is no file' if path.exists() else 'no such file'}.")
    # Older versions of Keras ignore the safe mode for HDF5 files, which can carry code.
    if path.suffix != ".keras":
        raise LoadError(
            f"Expected a model in Keras's own format, with the ending .keras. Received: {path.name!r}. "
            'Load it where you trust it and save it again: model.save("model.keras").'
        )
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises anything from KeyError to BadZipFile here
        raise LoadError(f"{str(path)!r} is not a model that Keras loads in safe mode: {_short(error)}") from None


def _short(error):
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 300 else words[:300] + " ..."
