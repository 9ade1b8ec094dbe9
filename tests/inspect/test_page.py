"""The page: one file, nothing in it that is not escaped, readable colours; rendered by a browser where there is one."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fastload.inspect import inspect_dataset, write_html
from fastload.inspect.plan import explain_recipe
from fastload.inspect.run import take_pictures
from fastload.recipe import load_recipe

EVIL = [
    "<script>alert(1)",
    '"><img src=x onerror=alert(2)>',
    "&lt;b&gt; ' \" <",
    "{{7*7}} </style><svg onload=alert(3)>",
]


class Reader(HTMLParser):
    """Collects elements, their attributes, and the text between them."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.links, self.handlers, self.text = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.links.append(value)
            if name.startswith("on"):
                self.handlers.append((name, value))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def evil_page(tmp_path_factory):
    """A folder whose classes and files have names that mean something in HTML, with one damaged file and a copy."""
    folder, rng = tmp_path_factory.mktemp("evil"), np.random.default_rng(1)
    classes = [name.replace("/", "") for name in EVIL]  # a folder's name has no slash
    for name in classes:
        (folder / name).mkdir()
        for number in range(3):
            pixels = rng.integers(0, 256, (40 + 9 * number, 60, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"<b>{number}.jpg")
    shutil.copy(folder / classes[0] / "<b>0.jpg", folder / classes[1] / "copy<i>.jpg")
    (folder / classes[0] / "<u>broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    target = tmp_path_factory.mktemp("page") / "report.html"
    write_html(target, inspect_dataset(folder), take_pictures(folder, count=20))
    return classes, target.read_text(encoding="utf-8")


def test_names_are_text_and_never_markup(evil_page):
    classes, page = evil_page
    reader = Reader(page)
    assert not {"script", "iframe", "object", "b>", "u", "i", "link", "form"} & set(reader.tags)
    assert reader.handlers == []
    text = "".join(reader.text)
    for name in classes:
        assert name in text
    assert "<u>broken.jpg" in text
    assert "copy<i>.jpg" in text
    assert "<script" not in page
    assert reader.tags.count("style") == 1


def test_the_page_asks_for_nothing(evil_page):
    _, page = evil_page
    reader = Reader(page)
    assert reader.links
    assert all(link.startswith("data:image/jpeg;base64,") for link in reader.links)
    style = re.search(r"<style>(.*?)</style>", page, re.S).group(1)
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in html.unescape(page)
    assert page.count("<img") == len(re.findall(r'<img [^>]*alt="[^"]+"', page))


def test_colours_can_be_read_by_day_and_by_night(evil_page):
    """WCAG: text of 4.5 : 1 against whatever it stands on, in both schemes."""
    style = re.search(r"<style>(.*?)</style>", evil_page[1], re.S).group(1)
    blocks = re.findall(r":root \{(.*?)\}", style, re.S)
    assert len(blocks) == 2
    for block in blocks:
        colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6})", block))
        for ink, papers in {
            "ink": ("paper", "card", "note-paper", "problem-paper"),
            "muted": ("paper", "card"),
            "accent": ("paper", "card", "note-paper"),
            "problem": ("problem-paper",),
        }.items():
            for paper in papers:
                assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper, block)
        assert contrast(colours["bar"], colours["card"]) >= 3


def contrast(first, second):
    def luminance(colour):
        levels = np.array([int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)])
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


# Measures the page in a frame of its own: windows of a headless browser are never narrower than 500 pixels.
_FRAME = """<!doctype html><body style="margin:0"><pre id="result">not loaded</pre><script>
const errors = [];
addEventListener("error", event => errors.push(String(event.message)));
const frame = document.createElement("iframe");
frame.style = "width:WIDTHpx;height:800px;border:0";
frame.onload = () => {
  const page = frame.contentDocument, wide = [];
  frame.contentWindow.addEventListener("error", event => errors.push(String(event.message)));
  for (const opened of page.querySelectorAll("details")) opened.open = true;
  for (const element of page.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (box.right > WIDTH + 0.5 || box.left < -0.5) wide.push(element.tagName + "." + element.className);
  }
  const images = [...page.images];
  document.getElementById("result").textContent = JSON.stringify({
    errors, wide, scroll: page.documentElement.scrollWidth, title: page.title, images: images.length,
    shown: images.filter(image => image.naturalWidth > 0).length,
    requests: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name),
    ink: getComputedStyle(page.body).color, height: page.documentElement.scrollHeight,
    bars: page.querySelectorAll("svg .bar").length,
  });
};
frame.srcdoc = PAGE;
document.body.append(frame);
</script></body>"""


def browse(page, width, folder, dark):
    """What a headless Chromium makes of a page in a frame of ``width`` pixels."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium on this machine to render the page with")
    text = json.dumps(page).replace("</", "<\\/").replace("<!--", "<\\!--")
    (folder / "frame.html").write_text(_FRAME.replace("WIDTH", str(width)).replace("PAGE", text), encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --disable-dev-shm-usage --dump-dom --virtual-time-budget=20000"
    flags += " --force-dark-mode" if dark else ""
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [program, *flags.split(), profile, (folder / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=600,
        encoding="utf-8",
    )
    result = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.S)
    assert result is not None, done.stderr[-2000:]
    return json.loads(html.unescape(result.group(1)))


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_a_browser_shows_it_on_a_phone_and_on_a_desk(width, dark, evil_page, zoo, recipe_file, tmp_path):
    recipe = load_recipe(recipe_file)
    target = tmp_path / "report.html"
    pictures = take_pictures(zoo, recipe=recipe)
    write_html(target, inspect_dataset(zoo, recipe=recipe), pictures, explain_recipe(recipe, zoo))
    for number, page in enumerate((target.read_text(encoding="utf-8"), evil_page[1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        seen = browse(page, width, folder, dark)
        assert seen["errors"] == []
        assert seen["ink"] == ("rgb(232, 237, 242)" if dark else "rgb(23, 32, 42)")
        assert seen["requests"] == []
        assert seen["wide"] == []
        assert seen["scroll"] <= width
        assert seen["images"] == seen["shown"] >= 12
        assert seen["bars"] > 5
        assert seen["title"].endswith("what is in it")
