"""Idx files, the format of MNIST and Fashion-MNIST, written from its description."""

import numpy as np


def idx(array):
    """Bytes of an idx file: two zeros, the type uint8, the rank, the sizes (big-endian), the numbers."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype("uint8").tobytes()
