"""`python -m pane_keras` is the command `pane-keras`."""

import sys

from pane_keras.cli import main

sys.exit(main())
