"""The really trained network and the photographs of `pane-keras demo`. Needs the extra `pane-keras[demo]`."""
