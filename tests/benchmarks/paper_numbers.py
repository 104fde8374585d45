"""Numbers of the paper's tables I to IV as printed there, misplaced decimal points included (-1.064 for -0.1064)."""

REGIONS_PERCENT = tuple(k / 10 for k in range(1, 11))
LOGIT_PERCENT = tuple(k / 100 for k in range(1, 11))

# {(data, network, method): mean change of the probability}
TABLE_1 = {
    ("Dogs vs. Cats", "AlexNet", "best (Guided BP)"): (
        -0.0330, -0.0503, -0.0657, -0.0797, -0.0898, -0.0983, -1.064, -1.146, -1.224, -1.127,
    ),
    ("Dogs vs. Cats", "AlexNet", "POS+NEG"): (
        -1.281, -2.116, -2.677, -3.091, -3.445, -3.722, -3.959, -4.204, -4.339, -4.447,
    ),
    ("Dogs vs. Cats", "VGG-16", "best (Guided BP)"): (
        -0.016, -0.0323, -0.0427, -0.0525, -0.0619, -0.0716, -0.0836, -0.0898, -0.0942, -1.012,
    ),
    ("Dogs vs. Cats", "VGG-16", "POS+NEG"): (
        -0.0119, -0.018, -0.0252, -0.0357, -0.0405, -0.0483, -0.0572, -0.0631, -0.0684, -0.0742,
    ),
    ("ImageNet", "AlexNet", "best (Guided BP)"): (
        -0.0399, -0.0997, -1.683, -2.319, -2.862, -3.329, -3.795, -4.18, -4.594, -4.959,
    ),
    ("ImageNet", "AlexNet", "POS+NEG"): (
        -0.0842, -0.204, -3.237, -4.276, -5.19, -5.845, -6.422, -6.892, -7.234, -7.559,
    ),
    ("ImageNet", "VGG-16", "best (Guided BP)"): (
        -0.0573, -1.251, -1.916, -2.54, -3.171, -3.74, -4.261, -4.699, -5.073, -5.412,
    ),
    ("ImageNet", "VGG-16", "POS+NEG"): (
        -0.051, -1.141, -1.618, -2.08, -2.523, -2.977, -3.352, -3.652, -3.955, -4.207,
    ),
}  # fmt: skip

# Removing the most negative pixels of POS+NEG.
TABLE_2 = {
    ("Dogs vs. Cats", "AlexNet", "POS+NEG"): (
        0.0197, 0.0206, 0.0205, 0.0171, 0.0161, 0.015, 0.0136, 0.0124, 0.0109, 0.0097,
    ),
    ("Dogs vs. Cats", "VGG-16", "POS+NEG"): (
        -0.0097, -0.02, -0.0278, -0.0376, -0.0491, -0.0551, -0.0644, -0.0699, -0.076, -0.0826,
    ),
}  # fmt: skip

# Logit of the perturbed minus that of the original image, added up over the samples, on AlexNet: from the top (III) and
# from the bottom (IV).
SUMS_3 = {
    ("Dogs vs. Cats", "AlexNet", "POS"): (
        0.055, 0.11, 0.0806, 0.177, 0.152, 0.206, 0.219, 0.288, 0.312, 0.349,
    ),
    ("Dogs vs. Cats", "AlexNet", "POS+NEG"): (
        -4.048, -8.528, -12.652, -16.491, -19.232, -22.751, -26.146, -29.474, -31.938, -35.157,
    ),
    ("ImageNet", "AlexNet", "POS"): (
        -0.015, -0.030, -0.028, -0.114, -0.146, -0.116, -0.135, -0.068, -0.159, -0.126,
    ),
    ("ImageNet", "AlexNet", "POS+NEG"): (
        -6.233, -13.259, -19.666, -25.663, -30.024, -35.479, -40.920, -46.041, -49.811, -54.816,
    ),
}  # fmt: skip
SUMS_4 = {
    ("Dogs vs. Cats", "AlexNet", "POS"): (
        0.003, -0.006, 0.002, -0.007, -0.007, 0.001, 0.003, -0.001, -0.002, -0.001,
    ),
    ("Dogs vs. Cats", "AlexNet", "POS+NEG"): (
        4.051, 8.799, 13.095, 17.033, 19.899, 23.493, 27.019, 30.402, 32.858, 36.093,
    ),
    ("ImageNet", "AlexNet", "POS"): (
        -0.038, -0.001, 0.080, 0.057, 0.071, 0.189, 0.145, 0.191, 0.221, 0.202,
    ),
    ("ImageNet", "AlexNet", "POS+NEG"): (
        6.256, 13.107, 19.476, 25.538, 29.828, 35.374, 40.670, 45.824, 49.506, 54.329,
    ),
}  # fmt: skip

# Share of samples whose logit changed as intended: it fell (III) or rose (IV). AlexNet.
TABLE_3 = {
    ("Dogs vs. Cats", "AlexNet", "POS"): (
        0.497, 0.497, 0.474, 0.483, 0.479, 0.476, 0.481, 0.473, 0.476, 0.482,
    ),
    ("Dogs vs. Cats", "AlexNet", "POS+NEG"): (1.0,) * 10,
    ("ImageNet", "AlexNet", "POS"): (
        0.422, 0.415, 0.441, 0.438, 0.456, 0.456, 0.461, 0.448, 0.462, 0.457,
    ),
    ("ImageNet", "AlexNet", "POS+NEG"): (0.998,) + (1.0,) * 9,
}  # fmt: skip
TABLE_4 = {
    ("Dogs vs. Cats", "AlexNet", "POS"): (
        0.363, 0.383, 0.426, 0.387, 0.407, 0.431, 0.438, 0.420, 0.452, 0.433,
    ),
    ("Dogs vs. Cats", "AlexNet", "POS+NEG"): (0.999,) + (1.0,) * 9,
    ("ImageNet", "AlexNet", "POS"): (
        0.391, 0.407, 0.428, 0.431, 0.440, 0.438, 0.435, 0.439, 0.445, 0.424,
    ),
    ("ImageNet", "AlexNet", "POS+NEG"): (0.999,) + (1.0,) * 9,
}  # fmt: skip
