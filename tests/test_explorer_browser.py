"""The explorer in a real browser: a click changes the map, and the numbers are those of `pair.map`."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import keras
import numpy as np
import psutil
import pytest
from keras import layers
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

import pane_keras

COMMAND = "import sys; from pane_keras.cli import main; sys.exit(main(sys.argv[1:]))"
OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,1043 --force-device-scale-factor=1"
)
PATIENCE = 240
"""Seconds until a page is there: the kernel imports TensorFlow, perhaps on a busy machine."""


@pytest.fixture(scope="module")
def binaries():
    """Paths of Chromium and of its driver."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if all(found):
        return found
    message = "Chromium is missing. Debian: apt-get install chromium chromium-driver"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with random weights, two pictures and the names of its classes."""
    folder = tmp_path_factory.mktemp("explorer")
    keras.utils.set_random_seed(7)
    keras.Sequential(
        [
            keras.Input((16, 16, 3), name="picture"),
            layers.Rescaling(1 / 255, offset=-0.5, name="rescaling"),
            layers.Conv2D(6, 3, padding="same", activation="relu", name="first"),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="second"),
            layers.Flatten(name="flatten"),
            layers.Dense(4, activation="softmax", name="predictions"),
        ],
        name="small",
    ).save(folder / "model.keras")
    for k, pixels in enumerate(np.random.default_rng(5).integers(0, 256, (2, 16, 16, 3), dtype="uint8")):
        Image.fromarray(pixels).save(folder / f"picture{k}.png")
    (folder / "names.txt").write_text("ant\nbee\ncat\ndog\n")
    return folder


@pytest.fixture(scope="module")
def address(folder, binaries):
    """Where the command serves the page; afterwards it is stopped as by Ctrl-C, and leaves nothing behind."""
    arguments = ["explore", "model.keras", "picture0.png", "picture1.png", "--classes", "names.txt", "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        said = ""
        while not (found := re.search(r"The explorer is at (\S+)", said)):
            line = process.stdout.readline()
            assert line, f"The command ended: {said}"
            said += line
        yield found[1]
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stdout.read().endswith("Stopped.\n")
        psutil.wait_procs(children, timeout=30)
        assert len(children) >= 2  # Voila and a kernel
        assert not any(child.is_running() for child in children)
        assert not list(folder.glob("pane_keras_*"))
    finally:
        process.kill()


@pytest.fixture(scope="module")
def page(address, binaries, tmp_path_factory):
    """A browser at the page, which is there: one visit for all tests, since each starts a kernel."""
    options = webdriver.ChromeOptions()
    options.binary_location = binaries[0]
    for option in (*OPTIONS.split(), f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service(binaries[1]))
    try:
        driver.set_page_load_timeout(PATIENCE)
        driver.get(address)
        WebDriverWait(driver, PATIENCE).until(lambda d: len(pictures(d)) == 5 and loaded(d))
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(page):
    """The browser, at the top class of the first picture."""
    for number, text in ((0, "picture0.png"), (1, "logits  (4)"), (-1, "second  (8 x 8 x 8)")):
        choose(page, number, text)
    return page


@pytest.fixture(scope="module")
def traces(folder):
    """The traces that the page has, made here."""
    pane = pane_keras.wrap(keras.saving.load_model(folder / "model.keras"))
    return [pane.trace(np.asarray(Image.open(folder / f"picture{k}.png"))[None].astype("float32")) for k in (0, 1)]


def pictures(driver):
    """The picture, the target's output, POS, NEG and POS + NEG, in this order."""
    return driver.find_elements(By.CSS_SELECTOR, ".pane-picture")


def loaded(driver):
    script = "return [...document.querySelectorAll('.pane-image')].filter(i => i.naturalWidth > 0).length"
    return driver.execute_script(script) >= 4


def texts(driver, selector):
    """What elements say, read in one step: each answer puts new elements in their place."""
    script = "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText)"
    return driver.execute_script(script, selector)


def status(driver):
    return texts(driver, ".pane-status")[0]


def explained(driver):
    return texts(driver, ".pane-explorer")[0]


def totals(driver):
    """The totals under POS, NEG and POS + NEG."""
    return texts(driver, ".pane-total")


def seen(element):
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def wait(driver, condition):
    WebDriverWait(driver, 60).until(condition)
    WebDriverWait(driver, 60).until(lambda d: not d.find_elements(By.CSS_SELECTOR, ".pane-picture.pane-busy"))
    time.sleep(0.3)  # the image of the last message is decoded


def click(driver, picture, row, column):
    """Clicks the middle of a place."""
    rows, columns = grid(driver, picture)
    box = picture.size
    across = (column + 0.5) / columns * box["width"] - box["width"] / 2
    down = (row + 0.5) / rows * box["height"] - box["height"] / 2
    actions = webdriver.ActionChains(driver)
    actions.move_to_element_with_offset(picture, round(across), round(down)).click().perform()


def choose(driver, number, text):
    """Chooses from the lists of the picture, the target (0, 1) or the source (-1), and waits for what comes of it."""
    chosen = Select(driver.find_elements(By.TAG_NAME, "select")[number])
    if chosen.first_selected_option.text.split() != text.split():
        before = answers(driver)
        chosen.select_by_visible_text(text)
        wait(driver, lambda d: answers(d) > before and "Answered in" in status(d))


def answers(driver):
    """How many choices were answered so far."""
    return int(driver.execute_script("return document.querySelector('.pane-status').dataset.count"))


def grid(driver, picture):
    """Rows and columns: maps are drawn with one pixel a place."""
    size = driver.execute_script(
        "const i = arguments[0].querySelector('img'); return [i.naturalHeight, i.naturalWidth]", picture
    )
    return tuple(size)


def said(maps):
    return [f"{float(np.asarray(part[0], 'float64').sum()):.3g}" for part in (maps.positive, maps.negative, maps.sum)]


def test_a_class_then_a_click_then_the_next_pair(browser, traces, tmp_path):
    trace = traces[0]
    top = int(np.argmax(trace.logits()[0]))
    maps = trace.between("second", "logits").map(target=(top,))
    assert totals(browser) == said(maps)
    assert f"class {top} ({('ant', 'bee', 'cat', 'dog')[top]}) of logits" in explained(browser)

    first = seen(pictures(browser)[4])
    place = np.unravel_index(np.argmax(np.abs(np.asarray(maps.sum[0])).max(axis=-1)), (8, 8))
    channel = int(np.argmax(np.abs(np.asarray(maps.sum[0])[place])))
    unit = (int(place[0]), int(place[1]), channel)
    click(browser, pictures(browser)[4], *place)
    wait(browser, lambda d: f"unit [{', '.join(map(str, unit))}] of second" in explained(d))
    assert "Answered in" in status(browser)
    assert totals(browser) == said(trace.between("pool", "second").map(target=unit))
    assert (seen(pictures(browser)[4]) != first).any(axis=-1).mean() > 0.5

    browser.save_screenshot(str(tmp_path / "page.png"))
    page = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert page.shape == (900, 1280, 3)
    assert (page != page[0, 0]).any(axis=-1).mean() > 0.1
    inside = "return document.documentElement.scrollWidth <= window.innerWidth"
    assert browser.execute_script(inside)


def test_a_unit_of_the_target_is_clicked_and_the_map_follows(browser, traces):
    choose(browser, 1, "second  (8 x 8 x 8)")
    wait(browser, lambda d: "of second" in explained(d) and pictures(d)[1].is_displayed())
    channel = int(re.search(r"Channel (\d+): click a unit", explained(browser))[1])
    before = seen(pictures(browser)[4])
    output = np.asarray(traces[0]["second"].output)[0, :, :, channel]
    live = np.argwhere(output > 0)
    other = next(tuple(map(int, p)) for p in live if f"unit [{p[0]}, {p[1]}, {channel}]" not in explained(browser))
    click(browser, pictures(browser)[1], *other)
    wait(browser, lambda d: f"unit [{other[0]}, {other[1]}, {channel}] of second" in explained(d))
    source = Select(browser.find_elements(By.TAG_NAME, "select")[-1]).first_selected_option.text.split()[0]
    assert totals(browser) == said(traces[0].between(source, "second").map(target=(*other, channel)))
    assert (seen(pictures(browser)[4]) != before).any()


def test_another_picture_and_its_pixels(browser, traces):
    choose(browser, 0, "picture1.png")
    top = int(np.argmax(traces[1].logits()[0]))
    wait(browser, lambda d: totals(d) == said(traces[1].between("second", "logits").map(target=(top,))))
    choose(browser, -1, "input  (16 x 16 x 3)")
    wait(browser, lambda d: totals(d) == said(traces[1].between("input", "logits").map(target=(top,))))
    assert grid(browser, pictures(browser)[4]) == (16, 16)
    assert "pane-clickable" not in pictures(browser)[4].get_attribute("class")


def test_keys_choose_a_place_and_back_returns(browser):
    first = totals(browser)
    pictures(browser)[4].send_keys("\ue015\ue014\ue007")  # arrow down, arrow right, Enter
    wait(browser, lambda d: "Answered in" in status(d) or "Nothing at this place" in status(d))
    if "Answered" in status(browser):
        assert "unit [1, 1, " in explained(browser)
        browser.find_element(By.XPATH, "//button[contains(., 'Back')]").click()
        wait(browser, lambda d: totals(d) == first)


def test_strangers_on_this_machine_see_no_page(address):
    answer = urllib.request.urlopen(address.split("?")[0], timeout=PATIENCE)
    assert "/login" in answer.geturl()
