"""The diagram of an expression: every operand, leg and junction, and where it is folded, how much is hidden."""

import itertools
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import keras
import pytest
from agreement import draw, filled
from keras import layers

import pane_keras
from pane_keras.contraction import chain_equation
from pane_keras.display.diagram import diagram
from pane_keras.display.layout import layout_of
from pane_keras.display.network import network_of

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def trace():
    """Two paths that meet in an Add, and layers with long and odd names."""
    x = keras.Input((6, 6, 2), name="picture")
    y = layers.Conv2D(3, 3, padding="same", name='a<b>&"')(x)
    z = layers.ReLU(name="a_name_of_a_layer_that_fits_into_no_box")(layers.Conv2D(3, 1, name="side")(y))
    y = layers.Flatten(name="flat")(layers.Add(name="add")([y, z]))
    return pane_keras.wrap(filled(x, layers.Dense(2, name="end")(y))).trace(draw(2, 6, 6, 2))


def chain(source, target, count, size=4):
    """A chain as the display reads it, without tensors."""
    operands = [
        SimpleNamespace(
            name=f"o{source}_{target}_{k}", kind="dense", shape=(2, 1, size, size), in_shape=(size,), out_shape=(size,)
        )
        for k in range(count)
    ]
    return SimpleNamespace(source=source, target=target, operands=tuple(operands))


def drawn(network):
    """The texts of a network's drawing in their order, full names included, and the drawing."""
    tree = ElementTree.fromstring(diagram(network))
    assert tree.tag == f"{SVG}svg"
    return ["".join(text.itertext()) for text in tree.iter(f"{SVG}text")], tree


def shown(expression):
    """The tree of an expression's HTML, and the texts of its drawing."""
    tree = ElementTree.fromstring(expression._repr_html_())
    assert not {"script", "style", "img", "link"} & {element.tag for element in tree.iter()}
    return tree, ["".join(text.itertext()) for text in tree.iter(f"{SVG}text")]


def cells(network):
    """Every (rank, lane) that a junction or a box stands in, or a line passes."""
    layout = layout_of(network)
    yield from layout.junctions.values()
    for line, place in zip(network.lines, layout.lines):
        for rank in range(place.rank, layout.junctions[line.end].rank):
            yield rank, place.lane


def assert_readable(network):
    """Nothing lies on anything else, every line runs downwards, and everything is inside the picture."""
    layout = layout_of(network)
    taken = list(cells(network))
    assert len(set(taken)) == len(taken)
    for line, place in zip(network.lines, layout.lines):
        assert layout.junctions[line.start].rank < place.rank
        assert place.rank + len(line.boxes) <= layout.junctions[line.end].rank
        assert len(line.legs) == len(line.boxes) + 1
    _, tree = drawn(network)
    width, height = (float(tree.get(word)) for word in ("width", "height"))
    for box in tree.iter(f"{SVG}rect"):
        x, y, w, h = (float(box.get(word)) for word in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    for dot in tree.iter(f"{SVG}circle"):
        assert 0 < float(dot.get("cx")) < width
        assert 0 < float(dot.get("cy")) < height
    for path in tree.iter(f"{SVG}path"):
        assert all(0 <= float(n) <= max(width, height) for n in re.findall(r"[\d.]+", path.get("d")))
    return tree


# --- what is drawn ------------------------------------------------------------------------------------------------


def test_every_operand_leg_and_junction_is_drawn(trace):
    expression = trace.between("picture", "end").expression()
    tree, texts = shown(expression)
    assert len(list(tree.iter(f"{SVG}rect"))) == sum(len(c.operands) for c in expression.chains) == 7
    for number, (part, equation) in enumerate(zip(expression.chains, expression.equations), 1):
        terms = equation.split("->")[0].split(",")
        for operand, term in zip(part.operands, terms):
            assert any(operand.name in text for text in texts)
            assert {operand.kind, str(operand.shape)} <= set(texts)
            # The letters are those of the einsum: channel, batch, out, in.
            assert f"{number}:{term[3]} {operand.in_shape}" in texts
            assert f"{number}:{term[2]} {operand.out_shape}" in texts
            assert term[:2] == "ab"
    assert texts.count("a") == texts.count("b") == 7
    assert "a: the sign index s, 2 (sum, difference)" in texts
    assert any(text.startswith("b: batch, 2.") for text in texts)


def test_ends_are_open_and_junctions_are_filled(trace):
    tree, texts = shown(trace.between("picture", "end").expression())
    assert "picture (6, 6, 2), open leg of the source" in texts
    assert "end (2,), open leg of the target" in texts
    assert "add (6, 6, 3)" in texts
    fills = [dot.get("fill") for dot in tree.iter(f"{SVG}circle")]
    assert sorted(fills) == ["currentColor", "currentColor", "none", "none"]


def test_a_long_name_is_cut_in_the_box_and_whole_in_its_title(trace):
    tree, _ = shown(trace.between("side", "end").expression())
    titles = [title.text for title in tree.iter(f"{SVG}title")]
    assert "a_name_of_a_layer_that_fits_into_no_box" in titles
    assert "a_name_of_a_la…ts_into_no_box" in "".join(tree.itertext())


def test_the_same_is_said_in_words(trace):
    expression = trace.between("picture", "end").expression()
    tree, text = shown(expression)[0], str(expression)
    summaries = [element.text for element in tree.iter("summary")]
    assert len(summaries) == len(expression.chains) == 4
    assert repr(expression) == text
    rows = [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]
    for part in expression.chains:
        for operand, letters in zip(part.operands, itertools.pairwise("defghij")):
            below, above = letters
            legs = f"{below} {operand.in_shape} -> {above} {operand.out_shape}"
            assert [operand.name, operand.kind, legs, str(operand.shape)] in [row[:4] for row in rows]
            assert any(operand.name in line and line.endswith(legs) for line in text.splitlines())
    assert 'from picture (6, 6, 2), open leg of the source to a<b>&" (6, 6, 3)' in text
    assert summaries[0].startswith(
        'chain 1: picture (6, 6, 2), open leg of the source → a<b>&" (6, 6, 3), 1 operand(s)'
    )
    assert "from add (6, 6, 3) to end (2,), open leg of the target" in text


def test_what_is_left_without_tags_reads_in_order(trace):
    """Sites that strip <svg> keep its words."""
    words = re.sub(
        r"<[^>]*>", " ", diagram(network_of(trace.between("side", "end").expression().chains, "side", "end"))
    )
    order = [words.index(word) for word in ("side (6, 6, 3)", "d (6, 6, 3)", "relu", "add", "flat", "end (2,)")]
    assert order == sorted(order)


def test_one_layer_and_no_layer_at_all(trace):
    tree, texts = shown(trace.between("side", "a_name_of_a_layer_that_fits_into_no_box").expression())
    assert len(list(tree.iter(f"{SVG}rect"))) == 1
    assert "d (6, 6, 3)" in texts  # a single chain needs no number
    tree, texts = shown(trace.between("side", "side").expression())
    assert not list(tree.iter(f"{SVG}rect"))
    assert "side, open leg of the source and the target" in texts


def test_few_chains_are_open_and_many_are_closed(trace):
    opened = [part.get("open") for part in shown(trace.between("picture", "end").expression())[0].iter("details")]
    assert opened == [""] * 4
    x = keras.Input((2,))
    y = layers.Add()([layers.Dense(2)(x) for _ in range(5)])
    wide = pane_keras.wrap(filled(x, y)).trace(draw(1, 2)).between("input", "logits").expression()
    tree, texts = shown(wide)
    assert [part.get("open") for part in tree.iter("details")] == [None] * 5
    assert "... 2 more chains ..." in texts


# --- layout and folding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ends",
    [
        [(0, 1, 3)],
        [(0, 1, 1), (1, 2, 2), (1, 2, 1), (2, 3, 1)],  # a residual block
        [(0, 1, 1), (1, 4, 1), (1, 2, 1), (2, 4, 2), (2, 3, 4), (3, 4, 1), (1, 3, 1)],  # skips that overlap
        [(a, b, 1 + (a + b) % 3) for a, b in itertools.combinations(range(7), 2)],  # dense blocks
        [(0, k, 1) for k in range(1, 7)] + [(k, 7, 1) for k in range(1, 7)],  # side by side
        [(0, 2, 1), (0, 1, 5), (1, 2, 1), (0, 2, 9)],
    ],
)
def test_no_two_things_share_a_place(ends):
    network = network_of([chain(*each) for each in ends], "from", "to")
    tree = assert_readable(network)
    assert len(list(tree.iter(f"{SVG}rect"))) == sum(len(line.boxes) for line in network.lines)
    assert len(list(tree.iter(f"{SVG}circle"))) == len({end for a, b, _ in ends for end in (a, b)})


@pytest.mark.parametrize("count", [6, 7, 8, 200])
def test_a_long_chain_is_folded_in_the_middle(count):
    network = network_of([chain(0, 1, count)], "from", "to")
    texts, tree = drawn(network)
    folded = count > 7
    assert (f"... {count - 6} more ..." in texts) == folded
    names = [f"o0_1_{k}" for k in range(count)]
    kept = [*names[:3], *names[-3:]] if folded else names
    assert [name for name in names if name in texts] == kept
    assert len(list(tree.iter(f"{SVG}rect"))) == len(kept) + folded
    # The legs beside the fold keep the letters that the einsum gives them.
    terms = chain_equation(count, True).split(",")[:-1]
    letters = [terms[0][3], *(term[2] for term in terms)]
    kept_letters = [*letters[:4], *letters[-4:]] if folded else letters
    assert [text for text in texts if text.endswith(" (4,)")] == [f"{letter} (4,)" for letter in kept_letters]
    assert_readable(network)


def test_a_large_graph_is_folded_in_the_middle():
    blocks = [chain(k, k + 1, count) for k in range(30) for count in (2, 1)]
    network = network_of(blocks, "from", "to")
    assert list(network.junctions) == [0, 1, 2, 3, 28, 29, 30]
    assert network.junctions[3].name == "... 25 more junctions, 48 chains between them ..."
    assert len(network.lines) == 60 - 48
    texts, _ = drawn(network)
    assert "... 25 more junctions, 48 chains between them ..." in texts
    assert "to (4,), open leg of the target" in texts
    assert_readable(network)


def test_lines_over_the_fold_end_in_it():
    spans = [(0, 20), (1, 9), (9, 20), (2, 19), *((k, k + 1) for k in range(20))]
    network = network_of([chain(a, b, 1) for a, b in spans], "from", "to")
    assert {line.start for line in network.lines} | {line.end for line in network.lines} == set(network.junctions)
    assert all(line.start < line.end for line in network.lines)
    assert_readable(network)


def test_many_chains_between_the_same_junctions_are_counted():
    network = network_of([chain(0, 1, 1) for _ in range(50)], "from", "to")
    assert [line.number for line in network.lines] == [1, 2, 3, 0]
    assert network.lines[-1].boxes[0].name == "... 47 more chains ..."
    assert_readable(network)
    assert len(network_of([chain(0, 1, 1) for _ in range(4)], "from", "to").lines) == 4
