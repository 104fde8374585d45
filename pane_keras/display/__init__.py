"""What objects show of themselves, as text in a terminal and as HTML in a notebook. Nothing that takes long is run."""
