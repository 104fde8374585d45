"""Layers that are refused, each with the reason."""

from pane_keras.registry import exported, refuse

refuse(
    *exported("FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"),
    reason="it runs a program of another framework, in which Keras sees no layers",
)
refuse(*exported("Layer", "Wrapper"), reason="it is a base class, which computes nothing of its own")
refuse(*exported("MaxNumBoundingBoxes"), reason="it cuts or fills a list of boxes, and emits no numbers")
refuse(
    *exported("ContrastLimitedAdaptiveHistogramEqualization"),
    reason="it counts pixels and looks the result up in a table, so nothing in it is linear in a pixel",
)
