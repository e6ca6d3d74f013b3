"""The report in a real browser: it works, it complains of nothing, and it loads nothing from elsewhere."""

import json
import shutil

import numpy as np
import pytest

from heldout_torch.stats import memorization
from tests.report.conftest import HOSTILE
from tests.report.read_page import read_script

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="no Chromium with chromedriver: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module", params=[(1200, 900), (390, 844)], ids=["desktop", "phone"])
def browser(request):
    webdriver = pytest.importorskip("selenium.webdriver")

    width, height = request.param
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--force-prefers-reduced-motion"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.implicitly_wait(5)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, folder):
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get((folder / "index.html").as_uri())
    yield Page(browser)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert urls
    outside = [url for url in urls if not url.startswith((folder.as_uri() + "/", "data:"))]
    assert outside == []
    assert not [m for m in messages if m["method"] == "Network.loadingFailed"]


class Page:
    def __init__(self, browser):
        self.browser = browser

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        return self.browser.find_element("css selector", selector)

    def until(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, 10).until(lambda _: condition())

    def choose(self, selector, value):
        from selenium.webdriver.support.ui import Select

        Select(self.one(selector)).select_by_value(value)

    def click(self, selector):
        element = self.one(selector)
        self.browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", element)
        element.click()

    def show_pairs(self):
        script = "arguments[0].scrollIntoView({behavior: 'instant'})"
        self.browser.execute_script(script, self.one("#pairs-title"))
        self.until(lambda: self.all("#pairs-table tbody tr"))

    def captions(self, selector):
        script = "return [...document.querySelectorAll(arguments[0])].map((element) => element.textContent)"
        return self.browser.execute_script(script, selector)


def test_a_class_filter_shows_the_examples_of_that_class(page, folder):
    page.choose("#gallery-class", "4")
    captions = "[data-gallery=gallery] .caption:last-child"  # before it lies the interval
    page.until(lambda: set(page.captions(captions)) == {"digit 4"})
    group = read_script(folder, "group-4")
    assert len(page.captions(captions)) == sum(len(group[f"level-{level}"]) for level in range(3))


def test_pairs_are_sorted_and_filtered(page, folder, tables):
    page.show_pairs()
    pairs, values = read_script(folder, "pairs"), memorization(tables[0.7])
    assert page.captions("#pairs-table tbody tr td:first-child .value")[0] == f"train {pairs['train'][0]}"
    page.click("[data-sort=memorization] button")
    page.until(lambda: page.one("[data-sort=memorization]").get_attribute("aria-sort") == "descending")
    first = page.captions("#pairs-table tbody tr td:first-child .value")
    memorized = [values[int(name.removeprefix("train "))] for name in first]
    assert memorized == sorted(memorized, reverse=True)
    page.click("[data-sort=index] button")
    page.until(lambda: page.one("[data-sort=index]").get_attribute("aria-sort") == "ascending")
    indices = [int(name.removeprefix("train ")) for name in page.captions("#pairs-table tbody td:first-child .value")]
    assert indices == sorted(set(pairs["train"]))[: len(indices)]
    label = str(pairs["examples"]["label"][0])
    page.choose("#pairs-class", label)
    expected = sum(one == int(label) for one in pairs["examples"]["label"])
    assert len(page.all("#pairs-table tbody tr")) == min(20, expected)
    assert page.one("#pairs-status").text.startswith(f"{expected} training examples of class")


def test_an_example_opens_and_closes_by_keyboard(page, tables):
    from selenium.webdriver.common.keys import Keys

    button = page.one("[data-list=level-2] button")
    index = int(button.find_element("css selector", "[role=img]").get_attribute("aria-label").split()[-1])
    button.send_keys(Keys.ENTER)
    page.until(lambda: page.one("#example").get_attribute("open"))
    page.until(lambda: f"Training example {index}," in page.one("#example-title").text)
    body = page.one("#example-body").get_attribute("textContent")
    held_out = np.flatnonzero(~tables[0.7].mask()[:, index])
    assert f"The {len(held_out)} runs that held it out" in body
    assert f"{memorization(tables[0.7])[index]:.3f}" in body
    page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: not page.one("#example").get_attribute("open"))
    assert page.browser.switch_to.active_element == button


def test_any_example_is_found_by_its_index(page):
    page.one("#lookup-index").send_keys("1300")
    page.click("#lookup button")
    page.until(lambda: "Training example 1300," in page.one("#example-title").text)
    page.click("[data-close]")
    page.until(lambda: not page.one("#example").get_attribute("open"))


def test_hostile_names_are_text(page):
    page.choose("#gallery-class", "0")
    page.until(lambda: HOSTILE in page.captions("[data-gallery=gallery] .caption"))
    assert page.browser.execute_script("return window.hacked") is None


def test_images_load_when_they_come_into_view_and_the_right_piece_of_a_sprite(page, folder):
    image = page.all("[data-list=level-0] .image")[19]
    page.browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", image)
    page.until(lambda: "images/0.png" in image.value_of_css_property("background-image"))
    group = read_script(folder, "group-all")
    picture = group["examples"]["picture"][group["examples"]["index"].index(group["level-0"][19])]
    row, column = divmod(picture, 16)
    assert min(row, column) > 0
    place = [-float(part.removesuffix("px")) for part in image.value_of_css_property("background-position").split()]
    assert np.allclose(place, [64 * column, 64 * row])


def test_nothing_is_wider_than_the_screen(page):
    page.show_pairs()
    assert page.browser.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
