"""The tensor network of an expression as an SVG that takes its colours from the page around it."""

import html

from pane_keras.display.layout import layout_of

_WIDTH, _HEIGHT, _GAP = 230, 56, 34
_LANE = _WIDTH + 50
_LEFT, _TOP = 40, 68
_DOT, _AROUND = 18, 18  # the row of a junction, and above and below it the room in which lines bend
_CHANNEL = "#d1603d"  # seen on light and on dark pages
_LONGEST = 29
_ROLES = {
    "source": "open leg of the source",
    "target": "open leg of the target",
    "both": "open leg of the source and the target",
}


def diagram(network):
    """Returns a `Network` as an SVG: operands as boxes, legs with their letters, junctions as dots.

    The text of its elements is in reading order, so that a site that strips the tags leaves something readable.
    """
    return _Drawing(network).svg()


class _Drawing:
    """Coordinates of a network, and its elements by rank."""

    def __init__(self, network):
        self.network, self.layout = network, layout_of(network)
        self._rows = self._row_heights()
        self._numbered = len(network.lines) > 1
        self._elements = []

    def svg(self):
        """Returns the whole drawing."""
        for key, junction in self.network.junctions.items():
            self._junction(self.layout.junctions[key], junction)
        for line, place in zip(self.network.lines, self.layout.lines):
            self._line(line, place)
        lanes = 1 + max(place.lane for place in (*self.layout.junctions.values(), *self.layout.lines))
        width, height = _LEFT + lanes * _LANE + 60, self._y(len(self._rows)) + 10
        width = max(width, 560)
        drawn = "\n".join(element for _, element in sorted(self._elements, key=lambda e: e[0]))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" font-size="12" fill="currentColor" '
            f'aria-label="tensor network">\n{self._legend()}\n{drawn}\n</svg>'
        )

    def _row_heights(self):
        """Ranks that hold only junctions are low."""
        boxed = {
            place.rank + k for line, place in zip(self.network.lines, self.layout.lines) for k in range(len(line.boxes))
        }
        last = max(place.rank for place in self.layout.junctions.values())
        dots = {place.rank for place in self.layout.junctions.values()}
        heights = [_HEIGHT if rank in boxed else _DOT for rank in range(last + 1)]
        return [height + _GAP + (2 * _AROUND if rank in dots else 0) for rank, height in enumerate(heights)]

    def _y(self, rank):
        return _TOP + sum(self._rows[:rank])

    def _dot(self, place):
        """The height of a junction's middle."""
        return self._y(place.rank) + _AROUND + _DOT / 2

    def _x(self, lane):
        return _LEFT + lane * _LANE + _WIDTH / 2

    def _add(self, rank, element):
        self._elements.append((rank, element))

    def _junction(self, place, junction):
        x, y = self._x(place.lane), self._dot(place)
        fill = "none" if junction.role in _ROLES else "currentColor"
        self._add(place.rank, f'<circle cx="{x}" cy="{y}" r="5" fill="{fill}" stroke="currentColor"/>')
        shape = "" if junction.shape is None else f" {junction.shape}"
        role = f", {_ROLES[junction.role]}" if junction.role in _ROLES else ""
        name = junction.name if junction.role == "fold" else _short(junction.name)
        weight = ' font-weight="bold"' if junction.role in _ROLES else ' font-style="italic"'
        self._add(place.rank, _text(x + 12, y + 4, f"{name}{shape}{role}", weight, full=junction.name))

    def _line(self, line, place):
        (start, end), x = (self.layout.junctions[key] for key in (line.start, line.end)), self._x(place.lane)
        tops = [self._y(place.rank + k) for k in range(len(line.boxes))]
        self._add(place.rank, _bend(self._x(start.lane), self._dot(start) + 5, x, tops[0] - 20, tops[0]))
        for k, (y, box) in enumerate(zip(tops, line.boxes)):
            self._leg(place.rank + k, line, k, x, y - 6)
            self._box(place.rank + k, box, x, y)
            if k:
                self._add(place.rank + k, _bend(x, tops[k - 1] + _HEIGHT, x, y))
        self._last_leg(line, place, x, tops[-1] + _HEIGHT, end)

    def _last_leg(self, line, place, x, y, end):
        """Down the chain's own lane to the rank above the junction, and from there to it."""
        rank = place.rank + len(line.boxes) - 1
        low = self._y(end.rank) - _GAP + 20
        self._add(rank, _bend(x, y, x, low))
        self._add(rank, _bend(x, low, self._x(end.lane), self._dot(end) - 5))
        self._leg(rank, line, -1, x, y + 15)

    def _leg(self, rank, line, k, x, y):
        leg = line.legs[k]
        if leg is not None:
            number = f"{line.number}:" if self._numbered else ""
            self._add(rank, _text(x + 7, y, f"{number}{leg.letter} {leg.shape}", ' font-size="11"'))

    def _box(self, rank, box, x, y):
        left = x - _WIDTH / 2
        if not box.kind:
            self._add(rank, _rect(left + 30, y, _WIDTH - 60, _HEIGHT, ' stroke-dasharray="4 3"'))
            self._add(rank, _text(x, y + 32, box.name, ' text-anchor="middle" font-style="italic"'))
            return
        self._add(rank, _rect(left, y, _WIDTH, _HEIGHT))
        for letter, colour, height in (("a", _CHANNEL, 18), ("b", "currentColor", 38)):
            self._add(rank, _stub(left, y + height, letter, colour))
        middle = ' text-anchor="middle"'
        self._add(rank, _text(x, y + 18, _short(box.name), f'{middle} font-weight="bold"', full=box.name))
        self._add(rank, _text(x, y + 33, box.kind, middle))
        self._add(rank, _text(x, y + 48, box.shape, f'{middle} font-size="11" opacity="0.75"'))

    def _legend(self):
        batch = "" if self.network.batch is None else f", {self.network.batch}"
        words = [f"b: batch{batch}. Both are hyper-indices: on every operand, never summed."]
        words += ["2:e: the leg e of the einsum of chain 2."] if self._numbered else []
        channel = _text(8, 16, "a: the sign index s, 2 (sum, difference)", f' fill="{_CHANNEL}"')
        return "\n".join([channel, *(_text(8, 32 + 16 * k, word) for k, word in enumerate(words))])


def _text(x, y, words, attributes="", full=None):
    name = "" if full is None or full in words else f"<title>{html.escape(full)}</title>"
    return f'<text x="{x:g}" y="{y:g}"{attributes}>{name}{html.escape(words)}</text>'


def _rect(x, y, width, height, attributes=""):
    style = 'rx="5" fill="currentColor" fill-opacity="0.07" stroke="currentColor" stroke-opacity="0.6"'
    return f'<rect x="{x:g}" y="{y:g}" width="{width}" height="{height}" {style}{attributes}/>'


def _stub(x, y, letter, colour):
    line = f'<path d="M {x:g} {y:g} h -12" stroke="{colour}" stroke-width="1.5" stroke-dasharray="3 2"/>'
    return line + _text(x - 15, y + 4, letter, f' text-anchor="end" font-size="11" fill="{colour}"')


def _bend(x, y, to_x, to_y, low=None):
    """A line downwards that leaves and arrives vertically, and goes on to the height `low`."""
    middle = (y + to_y) / 2
    curve = f"V {to_y:g}" if x == to_x else f"C {x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"
    on = "" if low is None else f" V {low:g}"
    return f'<path d="M {x:g} {y:g} {curve}{on}" fill="none" stroke="currentColor" stroke-opacity="0.7"/>'


def _short(name):
    """Long names are cut in the middle: their ends tell them apart."""
    half = (_LONGEST - 1) // 2
    return name if len(name) <= _LONGEST else f"{name[:half]}…{name[-half:]}"
