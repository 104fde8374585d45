"""The command: what it prints and writes, and one clear line with exit code 2 for every mistake."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import pane_keras
from pane_keras.cli import main
from pane_keras.commands import output

COMMAND = "import sys; from pane_keras.cli import main; sys.exit(main(sys.argv[1:]))"
WITHOUT_TENSORFLOW = """
import sys
from pane_keras.cli import main
try:
    main(["--help"])
finally:
    assert not {"keras", "tensorflow"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models and pictures, as a user has them."""
    folder = tmp_path_factory.mktemp("user")
    keras.utils.set_random_seed(3)
    _model([], "plain").save(folder / "plain.keras")
    _model([layers.Rescaling(1 / 255, name="rescaling")], "rescaled").save(folder / "rescaled.keras")
    _flat_model().save(folder / "flat.keras")
    _two_inputs().save(folder / "two_inputs.keras")
    _two_outputs().save(folder / "two_outputs.keras")
    _with_lambda().save(folder / "lambda.keras")
    _with_noise().save(folder / "unsupported.keras")
    keras.Sequential([keras.Input((8, 8, 5)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)]).save(
        folder / "five_channels.keras"
    )
    _pictures(folder)
    (folder / "broken.keras").write_bytes(b"not a zip file")
    (folder / "old.h5").write_bytes(b"\x89HDF")
    (folder / "text.png").write_text("not a picture")
    return folder


def _model(first, name):
    tail = [
        layers.Conv2D(4, 3, activation="relu", name="conv1"),
        layers.MaxPooling2D(name="pool"),
        layers.Dropout(0.5, name="dropout"),
        layers.Conv2D(5, 3, name="conv2"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
        layers.Flatten(name="flatten"),
        layers.Dense(3, activation="softmax", name="predictions"),
    ]
    return keras.Sequential([keras.Input((16, 16, 3), name="picture"), *first, *tail], name=name)


def _flat_model():
    return keras.Sequential([keras.Input((12, 10)), layers.Flatten(), layers.Dense(4, name="scores")], name="flat")


def _two_inputs():
    a, b = keras.Input((4, 4, 3), name="a"), keras.Input((4, 4, 3), name="b")
    return keras.Model([a, b], layers.Dense(2)(layers.Flatten()(layers.Add()([a, b]))))


def _two_outputs():
    x = keras.Input((4, 4, 3))
    flat = layers.Flatten()(x)
    return keras.Model(x, [layers.Dense(2, name="kind")(flat), layers.Dense(1, name="size")(flat)])


def _with_lambda():
    return keras.Sequential([keras.Input((4, 4, 3)), layers.Lambda(lambda x: 2 * x), layers.Flatten(), layers.Dense(2)])


def _with_noise():
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(2)(layers.Dropout(0.5, name="noise")(x, training=True)))


def _pictures(folder):
    pixels = np.random.default_rng(5).integers(0, 256, (20, 24, 4), dtype="uint8")
    Image.fromarray(pixels[..., :3]).save(folder / "colour.png")
    Image.fromarray(pixels[..., :3]).save(folder / "photo.jpg", quality=95)
    Image.fromarray(pixels[..., 0]).save(folder / "gray.png")
    Image.fromarray(pixels).save(folder / "alpha.png")
    Image.fromarray(pixels[..., 0].astype("uint16") * 257).save(folder / "deep.png")
    Image.fromarray(pixels[:16, :16, :3]).save(folder / "fits.png")
    Image.fromarray(pixels[..., 0]).convert("1").save(folder / "bits.png")
    Image.fromarray(pixels[..., :3]).convert("CMYK").save(folder / "cmyk.jpg")
    moving = [Image.fromarray(pixels[..., :3]), Image.fromarray(pixels[::-1, :, :3])]
    moving[0].save(folder / "moving.gif", save_all=True, append_images=moving[1:])
    real = np.linspace(-1, 4, 20 * 24, dtype="float32").reshape(20, 24)
    real[3, 4] = np.nan
    Image.fromarray(real).save(folder / "real.tif")
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(folder / "opaque.png")
    (folder / "cut.png").write_bytes((folder / "colour.png").read_bytes()[:700])


@pytest.fixture
def run(folder, tmp_path, capsys, monkeypatch):
    """Function (*arguments) -> (exit code, stdout, stderr), run where the user's files are; figures go to tmp_path."""
    monkeypatch.chdir(folder)

    def call(*arguments):
        if arguments and arguments[0] in ("explain", "demo") and "--out" not in arguments:
            arguments = (*arguments, "--out", str(tmp_path))
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def drawn(monkeypatch):
    """The maps and pictures that the command would draw; drawing itself is left out, for its time."""
    calls = []
    monkeypatch.setattr(output, "plot", lambda maps, pictures, **kwargs: calls.append((maps, pictures)))
    monkeypatch.setattr(output, "save_png", lambda figure, path: None)
    return calls


def the_maps(folder, name, pixels, query):
    return query(pane_keras.wrap(keras.saving.load_model(folder / name)).trace(pixels))


def test_explain_writes_a_figure_and_says_what_it_did(run, tmp_path):
    code, out, err = run("explain", "rescaled.keras", "fits.png")
    assert (code, err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["fits_pane.png"]
    assert "pixels: 0 to 255, preprocessed by the model's own layer 'rescaling'" in out
    assert "explained: the logit" in out
    assert "self-check passed: largest residual" in out
    assert f"written: {tmp_path / 'fits_pane.png'}" in out
    assert "resized" not in out
    with Image.open(tmp_path / "fits_pane.png") as image:
        image.load()
        assert image.size[0] > 800


def test_explain_draws_the_top_class_of_the_picture(run, folder, drawn):
    assert run("explain", "rescaled.keras", "fits.png")[0] == 0
    (maps, picture), pixels = drawn[0], np.asarray(Image.open(folder / "fits.png"))[None]
    np.testing.assert_array_equal(picture, pixels)
    expected = the_maps(folder, "rescaled.keras", pixels, lambda t: t.saliency())
    np.testing.assert_allclose(maps.sum, expected.sum, rtol=1e-5, atol=1e-12)


def test_explain_a_class_and_preprocessing_from_the_command_line(run, folder, drawn):
    code, out, _ = run("explain", "plain.keras", "fits.png", "--target", 2, "--scale", 1 / 127.5, "--offset", -1)
    assert code == 0
    assert "pixels: pixel * 0.00784314 + -1" in out
    assert "of class 2" in out
    pixels = np.asarray(Image.open(folder / "fits.png"))[None] / 127.5 - 1
    expected = the_maps(folder, "plain.keras", pixels, lambda t: t.saliency(2))
    np.testing.assert_allclose(drawn[0][0].positive, expected.positive, rtol=1e-4, atol=1e-6)


def test_explain_says_when_nothing_is_known_of_the_preprocessing(run, drawn):
    code, out, _ = run("explain", "plain.keras", "fits.png")
    assert code == 0
    assert "pixels: 0 to 255 as they are, since the model has no Rescaling or Normalization layer" in out
    assert "--scale and --offset" in out
    _, out, _ = run("explain", "rescaled.keras", "fits.png", "--scale", "0.5")
    assert "pixel * 0.5 + 0, and then the model's own layer 'rescaling'" in out


@pytest.mark.parametrize(
    ("picture", "notices"),
    [
        ("colour.png", ["resized from 24 x 20 to 16 x 16"]),
        ("photo.jpg", ["resized"]),
        ("gray.png", ["converted to RGB", "resized"]),
        ("alpha.png", ["laid on white where it is transparent", "resized"]),
        ("deep.png", ["converted to RGB", "resized"]),
        ("bits.png", ["converted to RGB", "resized"]),
        ("cmyk.jpg", ["converted to RGB", "resized"]),
        ("moving.gif", ["the first of 2 frames", "resized"]),
        ("real.tif", ["real numbers, spread from -1 for black to 4 for white, converted to RGB", "resized"]),
    ],
)
def test_explain_takes_any_picture(run, picture, notices, drawn):
    code, out, _ = run("explain", "rescaled.keras", picture)
    assert code == 0
    assert all(notice in out for notice in notices)
    assert drawn[0][1].shape == (1, 16, 16, 3)


def test_a_channel_of_transparency_that_hides_nothing_is_not_mentioned(run, drawn):
    code, out, _ = run("explain", "rescaled.keras", "opaque.png", "colour.png")
    assert code == 0
    assert "opaque.png, resized from 24 x 20 to 16 x 16\n" in out
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])


def test_real_numbers_keep_their_order(run, drawn):
    assert run("explain", "rescaled.keras", "real.tif")[0] == 0
    rows = drawn[0][1][0, :, :, 0].mean(axis=1)
    assert (np.diff(rows) > 0).all()
    assert rows[0] < 20 < 235 < rows[-1]


def test_sixteen_bits_and_eight_are_the_same_picture(run, drawn):
    assert run("explain", "rescaled.keras", "gray.png", "deep.png")[0] == 0
    np.testing.assert_array_equal(drawn[0][1], drawn[1][1])


def test_explain_a_grayscale_model_without_an_axis_of_channels(run, drawn):
    code, out, _ = run("explain", "flat.keras", "colour.png")
    assert code == 0
    assert "converted to grayscale" in out
    assert drawn[0][0].sum.shape == (1, 12, 10)


def test_explain_over_a_layer_and_for_a_unit(run, folder, drawn):
    code, out, _ = run(
        "explain", "rescaled.keras", "fits.png", "--source", "conv1", "--layer", "conv2", "--unit", "1,2,3"
    )
    assert code == 0
    assert "explained: unit 1,2,3 of layer 'conv2'" in out
    assert "over layer 'conv1'" in out
    pixels = np.asarray(Image.open(folder / "fits.png"))[None]
    expected = the_maps(folder, "rescaled.keras", pixels, lambda t: t.between("conv1", "conv2").map((1, 2, 3)))
    np.testing.assert_allclose(drawn[0][0].sum, expected.sum, rtol=1e-5, atol=1e-9)


def test_explain_a_layer_takes_its_strongest_unit(run, folder, drawn):
    code, out, _ = run("explain", "rescaled.keras", "fits.png", "--layer", "conv2")
    assert code == 0
    pixels = np.asarray(Image.open(folder / "fits.png"))[None]
    output = the_maps(folder, "rescaled.keras", pixels, lambda t: np.asarray(t["conv2"].output))[0]
    unit = np.unravel_index(np.abs(output).argmax(), output.shape)
    assert f"unit {','.join(map(str, unit))} of layer 'conv2' is its strongest; --unit chooses another" in out


def test_explain_a_class_over_a_layer(run, drawn):
    code, out, _ = run("explain", "rescaled.keras", "fits.png", "--source", "pool", "--target", 1)
    assert code == 0
    assert "of class 1, over layer 'pool'" in out
    assert drawn[0][0].sum.shape == (1, 7, 7, 4)


def test_pictures_of_the_same_name_do_not_overwrite_each_other(run, folder, tmp_path):
    (folder / "more").mkdir(exist_ok=True)
    (folder / "more" / "fits.png").write_bytes((folder / "fits.png").read_bytes())
    assert run("explain", "rescaled.keras", "fits.png", "more/fits.png", "--out", tmp_path / "new" / "folder")[0] == 0
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["fits_pane.png", "fits_pane_2.png"]


def test_layers(run):
    code, out, err = run("layers", "rescaled.keras")
    assert (code, err) == (0, "")
    lines = [[cell for cell in line.split("  ") if cell] for line in out.splitlines()]
    rows = {line[0]: [cell.strip() for cell in line[1:]] for line in lines}
    assert rows["layer"] == ["class", "output shape", "treated as", "because"]
    assert rows["conv1"][:3] == ["Conv2D", "(None, 14, 14, 4)", "excited"]
    assert rows["dropout"][:3] == ["Dropout", "(None, 7, 7, 4)", "transparent"]
    assert rows["norm"][3].startswith("Eq. (15)")
    assert rows["predictions"][:2] == ["Dense", "(None, 3)"]
    assert "all supported" in lines[-1][0]


def test_layers_of_a_model_with_two_inputs(run):
    code, out, _ = run("layers", "two_inputs.keras")
    assert code == 0
    assert "input 'a' (4, 4, 3), input 'b' (4, 4, 3)" in out
    assert "Add" in out


def test_demo(run, tmp_path):
    code, out, err = run("demo")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chelsea_pane.png", "coffee_pane.png"]
    assert "94.0%  espresso (class 967" in out
    assert all(cat in out for cat in ("tabby", "tiger cat", "Egyptian cat"))
    assert out.count("self-check passed") == 2
    assert out.count("POS barely depends on the class here (rank correlation 1.00") == 2


def test_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("pane-keras 0.")


def test_help_does_not_wait_for_tensorflow():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "explain" in done.stdout


def test_nothing_of_tensorflow_on_stderr(folder):
    # Who sets the variable asks for TensorFlow's own notices, and gets them.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "layers", str(folder / "plain.keras")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""


EXPLAIN = ("explain", "plain.keras", "fits.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "missing.keras", "fits.png"), "No model at 'missing.keras': no such file"),
        (("layers", "more"), "No model at 'more'"),
        (("explain", "old.h5", "fits.png"), "with the ending .keras. Received: 'old.h5'"),
        (("explain", "broken.keras", "fits.png"), "'broken.keras' is not a model that Keras loads in safe mode"),
        (("layers", "lambda.keras"), "'lambda.keras' is not a model that Keras loads in safe mode"),
        (("layers", "unsupported.keras"), "Layer 'noise' is called with training=True inside the model"),
        (("explain", "plain.keras", "missing.png"), "No picture at 'missing.png': no such file"),
        (("explain", "plain.keras", "empty"), "No pictures in 'empty': no file with an ending such as .jpg"),
        (("explain", "plain.keras", "*.bmp"), "No file matches '*.bmp'"),
        (("explain", "plain.keras", "fits.png", "text.png"), "'text.png' is not a picture that can be read"),
        ((*EXPLAIN, "--scale", "1,2"), "Expected --scale to be one number, or one for each of the model's 3 channels"),
        ((*EXPLAIN, "--offset", "-1,-2"), "Expected --offset to be one number, or one for each of"),
        ((*EXPLAIN, "--offset", "1,x"), "argument --offset: expected a finite number. Received: 'x'"),
        (("explain", "plain.keras", "text.png"), "'text.png' is not a picture that can be read"),
        (("explain", "plain.keras", "cut.png"), "'cut.png' is not a picture that can be read"),
        (("explain", "plain.keras", "plain.keras"), "'plain.keras' is not a picture that can be read"),
        (
            ("explain", "two_inputs.keras", "fits.png"),
            "Expected a model of one picture, (batch, height",
        ),
        (("explain", "two_outputs.keras", "fits.png"), "has the outputs ['kind', 'size']: say with --layer"),
        (("explain", "five_channels.keras", "fits.png"), "Pictures have 1, 3 or 4 channels. The model expects 5"),
        ((*EXPLAIN, "--target", "3"), "Class 3 lies outside 'logits', which has 3 classes: 0 to 2"),
        ((*EXPLAIN, "--source", "conv3"), "The model has no layer 'conv3'. Did you mean 'conv"),
        ((*EXPLAIN, "--layer", "nothing"), "The model has no layer 'nothing'"),
        ((*EXPLAIN, "--source", "conv2", "--layer", "conv1"), "No path leads from 'conv2' to 'conv1'"),
        ((*EXPLAIN, "--layer", "conv2", "--unit", "9,9,9"), "Unit (9, 9, 9) lies outside layer 'conv2'"),
        ((*EXPLAIN, "--layer", "conv2", "--unit", "1"), "Unit (1,) lies outside layer 'conv2'"),
        ((*EXPLAIN, "--layer", "conv2", "--target", "1"), "--target is a class of the model's output"),
        ((*EXPLAIN, "--unit", "1,1,1"), "--unit is a unit of a layer: say which layer with --layer"),
        ((*EXPLAIN, "--out", "fits.png"), "Cannot write 'fits.png': File exists"),
        ((*EXPLAIN, "--unit", "a,b"), "argument --unit: expected whole numbers such as 7,7,40. Received: 'a,b'"),
        ((*EXPLAIN, "--target", "cat"), "argument --target: invalid int value: 'cat'"),
        ((*EXPLAIN, "--scale", "nan"), "argument --scale: expected a finite number. Received: 'nan'"),
        (("explain", "plain.keras"), "the following arguments are required: IMAGE"),
        (("paint",), "invalid choice: 'paint'"),
        ((), "the following arguments are required: COMMAND"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(run, arguments, message, folder):
    for name in ("more", "empty"):
        (folder / name).mkdir(exist_ok=True)
    code, _, err = run(*arguments)
    assert code == 2
    assert err.startswith("pane-keras: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "message"),
    [("matplotlib.figure", '[plot]"'), ("PIL.Image", '[plot]"')],
)
def test_a_missing_extra_is_one_line_too(run, monkeypatch, module, message):
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = run(*EXPLAIN)
    assert code == 2
    assert f'pip install "pane-keras{message}' in err
    assert err.count("\n") == 1
