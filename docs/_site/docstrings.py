"""Griffe extension: the house style of docstrings as mkdocstrings shows it best."""

import griffe

_OPTIONS = {"warn_missing_types": False, "warn_unknown_params": False}
_SAID = {griffe.DocstringSectionKind.returns: "Returns", griffe.DocstringSectionKind.yields: "Yields"}


class Docstrings(griffe.Extension):
    """Keeps attributes that share a line together, and says what is returned as a sentence."""

    def on_object(self, *, obj, **kwargs):
        """Parses the docstring of an object and mends its sections."""
        del kwargs
        if obj.docstring is not None:
            sections = obj.docstring.parse("google", **_OPTIONS)
            # `parsed` is kept by griffe: what stands there is what is rendered.
            obj.docstring.__dict__["parsed"] = [_mended(section) for section in sections]


def _mended(section):
    if section.kind in _SAID and not any(item.name or item.annotation for item in section.value):
        said = " ".join(item.description for item in section.value)
        return griffe.DocstringSectionText(f"**{_SAID[section.kind]}:** {said}")
    if section.kind is griffe.DocstringSectionKind.attributes:
        for item in section.value:
            _rejoin(item)
    return section


def _rejoin(item):
    """`source, target: Names` is no attribute `source,` of the type `target`."""
    if item.name.endswith(","):
        item.name, item.annotation = f"{item.name} {item.annotation}", None
