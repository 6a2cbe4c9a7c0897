"""The page in a browser: it renders, sorts, fits a phone, and the console stays silent."""

import re
import shutil
import subprocess

import pytest

from experiments.report import parse, source
from mmfuse.report.build import report
from tests.report.pages import ROWS, UGLY, Page, make_workdir, write_probes

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

SORT = """
const said = document.createElement("pre");
const names = () => [...document.querySelector("table.sortable").tBodies[0].rows].map(
  (row) => row.cells[0].textContent);
const button = (title) => [...document.querySelectorAll("thead button")].find(
  (found) => found.textContent === title);
const found = [];
for (const title of ["Accuracy (%)", "Accuracy (%)", "Accuracy (%)", "Method", "Parameters",
                     "Parameters"]) {
  button(title).click();
  found.push([title, button(title).closest("th").getAttribute("aria-sort"), ...names()].join("|"));
}
const unsorted = document.querySelectorAll("[aria-sort=none]").length;
found.push(document.querySelectorAll("[aria-sort]").length - unsorted);
said.textContent = found.join("\\n");
document.body.replaceChildren(said);
"""
FRAME = """<!doctype html><title>t</title><body><iframe src="{}" style="width:360px;height:900px">
</iframe><script>onmessage = (event) => {{ document.body.textContent = event.data; }};</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = make_workdir(tmp_path_factory.mktemp("browser") / "w")
    write_probes(path)
    text, _ = report([source(str(path), parse([f"--workdir={path}"]))], "report_csv")
    (path / "report.html").write_text(text, encoding="utf-8")
    return path / "report.html"


def _browse(page, *arguments):
    """(DOM, lines of the console)."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
               "--v=0", f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=2000",
               *arguments, "--dump-dom", page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=100, check=True)
    log = done.stderr.decode(errors="replace").splitlines()
    return done.stdout.decode(), [line for line in log if ":CONSOLE" in line]


def _with_script(page, name, script):
    """A copy of the page that runs a script of the test, which its policy forbids."""
    allowed = "script-src &#x27;unsafe-inline&#x27;"
    text, count = re.subn(r"script-src &#x27;sha256-\S+&#x27;", allowed, page.read_text())
    assert count == 1
    copy = page.with_name(name)
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return copy


def test_renders_in_silence(page):
    dom, console = _browse(page)
    assert console == []
    assert len(Page(dom).all("svg")) > 20
    assert "<script>alert(1)" not in dom


def test_console_is_heard(page):
    """The policy forbids a second script, and the test above would see it."""
    text = page.read_text().replace("</body>", "<script>alert(1)</script></body>")
    copy = page.with_name("refused.html")
    copy.write_text(text)
    assert "Content Security Policy" in " ".join(_browse(copy)[1])


def test_sorts(page):
    dom, console = _browse(_with_script(page, "sorted.html", SORT))
    assert console == []
    *lines, marked = Page(re.search(r"<pre>.*</pre>", dom, re.S)[0]).said("pre")[0].split("\n")
    order, up = list(ROWS), ["text", UGLY, "concat", "cross_attention"]
    assert [line.split("|") for line in lines] == [
        ["Accuracy (%)", "ascending", *up],
        ["Accuracy (%)", "descending", *reversed(up)],
        ["Accuracy (%)", "none", *order],
        ["Method", "ascending", UGLY, "concat", "cross_attention", "text"],
        ["Parameters", "ascending", *order],
        ["Parameters", "descending", *reversed(order)],
    ]
    assert marked == "1"  # only the header that was clicked last


def test_fits_a_phone(page):
    sizes = "[innerWidth, root.clientWidth, root.scrollWidth]"  # the scroll bar is between
    script = f"const root = document.documentElement; parent.postMessage({sizes}.join(), '*')"
    inner = _with_script(page, "inner.html", f"onload = () => {{ {script} }};")
    outer = page.with_name("outer.html")
    outer.write_text(FRAME.format(inner.as_uri()))
    dom, _ = _browse(outer)
    window, inside, content = map(int, re.search(r"<body>([\d,]+)\s*</body>", dom)[1].split(","))
    assert window == 360 and content == inside >= 340
