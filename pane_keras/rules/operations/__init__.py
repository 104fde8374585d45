"""The rules of `keras.ops` calls that are nodes of a model's graph. Keras does not export their classes: names do.

A rule takes the operation and the call's `Arguments`; the piece it returns reads the live slots. Whatever is not live
(numbers, arrays, variables, masks, indices) is a constant.
"""

from pane_keras.rules.operations import arithmetic, arrays, constants, functions, products, reductions  # noqa: F401
