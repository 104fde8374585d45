"""Neighbouring operands of a chain, arranged so that a sweep passes over memory less often."""

from pane_keras import backend
from pane_keras.portions import entries

# A kernel is read and written three times to be rescaled: for S, for |W| and for D.
_PASSES_OF_KERNEL, _PASSES_OF_ROWS = 3, 2


def with_scales_in_kernels(operands):
    """Returns operands, from source to target, with factors of channels moved into the kernel below them.

    A normalization after a convolution multiplies each channel by c. Since c sign(o') |W| = sign(o') (c |W|), the
    kernel takes c over, and of the normalization its mask is left. That is done where kernels are smaller than the
    rows.
    """
    result = list(operands)
    for k in range(len(result) - 1):
        if _takes_over(result[k], result[k + 1]):
            factor = result[k + 1]
            result[k : k + 2] = result[k].rescaled(factor.by_channel, factor.gain), factor.as_mask()
    return tuple(result)


def _takes_over(kernel, factor):
    if backend.puts_off(kernel.out):
        return False  # the factor is one of many in a pass that is made anyway
    if getattr(factor, "by_channel", None) is None or getattr(kernel, "rescale", None) is None:
        return False
    return _PASSES_OF_ROWS * entries(kernel.out) > _PASSES_OF_KERNEL * entries(kernel.kernel)
