"""TensorFlow counterparts of the functions that `pane_keras.backend` exports."""
