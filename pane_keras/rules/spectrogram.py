"""Spectrograms: frames of a signal times sines and cosines, and what is made of them."""

import math

import keras
import numpy as np
from keras import ops

from pane_keras import pieces
from pane_keras.registry import exported, register_as


@register_as("STFT")
def short_time_fourier_transform(operation, arguments):
    """Windows of the signal, mirrored at its ends, times cosines and sines: real and imaginary part."""
    kernels = _fourier(operation, _window(operation))

    def run(record, slot):
        frames = pieces.nonnegative(lambda x: _frames(operation, x), copies=True, kind="frames")(record, slot)
        return [pieces.linear(ops.matmul, kernel, kind="Fourier transform")(record, frames) for kernel in kernels]

    return run


@register_as(*exported("STFTSpectrogram"))
def spectrogram(layer, inputs, arguments):
    """The graph of its convolutions with sines and cosines, and of what it makes of them."""
    return pieces.graph(layer, inputs, arguments)


@register_as(*exported("MelSpectrogram"))
def mel_spectrogram(layer, inputs, arguments):
    """The graph of Fourier transform, magnitude, mel bands and decibels; the loudest value is held fixed."""

    def call(x):
        real, imaginary = ops.stft(x, layer.sequence_length, layer.sequence_stride, layer.fft_length, layer.window)
        power = ops.sqrt(ops.square(real) + ops.square(imaginary)) ** layer.mag_exp
        bands = ops.matmul(power, _bands(layer, power.shape[-1]))
        return ops.swapaxes(_decibels(layer, bands) if layer.power_to_db else bands, -1, -2)

    return pieces.graph(layer, inputs, arguments, function=call, holds=("Max",))


def _bands(layer, bins):
    return layer.linear_to_mel_weight_matrix(
        num_mel_bins=layer.num_mel_bins,
        num_spectrogram_bins=bins,
        sampling_rate=layer.sampling_rate,
        lower_edge_hertz=layer.min_freq,
        upper_edge_hertz=layer.max_freq,
    )


def _decibels(layer, power):
    reference = 10 * math.log10(max(abs(layer.ref_power), layer.min_power))
    level = ops.log10(ops.maximum(power, layer.min_power)) * 10.0 - reference
    return ops.maximum(level, ops.max(level) - layer.top_db)


def _frames(operation, x):
    """(batch, frames, fft_length): positions in the signal, counted back from an end where they lie beyond it."""
    n, size = x.shape[-1], operation.fft_length
    margin = size // 2 if operation.center else 0
    count = 1 + (n + 2 * margin - size) // operation.sequence_stride
    place = np.arange(count)[:, None] * operation.sequence_stride + np.arange(size) - margin
    return ops.take(x, (n - 1) - np.abs((n - 1) - np.abs(place)), axis=-1)


def _window(operation):
    length = operation.sequence_length
    window = operation.window
    if window is None:
        window = np.ones(length)
    elif isinstance(window, str):
        base = {"hann": 0.5, "hamming": 0.54}[window]
        window = base - (1 - base) * np.cos(2 * np.pi * np.arange(length) / length)
    before = (operation.fft_length - length) // 2
    return np.pad(keras.ops.convert_to_numpy(window), (before, operation.fft_length - length - before))


def _fourier(operation, window):
    """Cosines and negative sines under the window, each (fft_length, fft_length // 2 + 1)."""
    time, frequency = np.ogrid[: operation.fft_length, : operation.fft_length // 2 + 1]
    angle = 2 * np.pi * ((time * frequency) % operation.fft_length) / operation.fft_length
    # A quarter of a turn has a cosine of exactly 0.
    waves = (np.where(np.abs(wave) < 1e-12, 0, wave) for wave in (np.cos(angle), -np.sin(angle)))
    return [(window[:, None] * wave).astype("float32") for wave in waves]
