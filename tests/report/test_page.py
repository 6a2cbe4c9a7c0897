"""The document: its policy, its colours, its figures."""

import base64
import hashlib
import re
from importlib import resources

import pytest

from mmfuse.markup import Html, data_uri, tag
from mmfuse.report.page import SHOWN, Figure, document, shown
from tests.report.pages import UGLY, Page, check_page

STYLE = (resources.files("mmfuse.report") / "page.css").read_text()


def test_document():
    text = document("A & <b>", tag("main", tag("h1", "T"), tag("p", "x", id="content")))
    page = check_page(text)
    assert page.said("title") == ["A & <b>"]
    assert page.elements[[t for t, *_ in page.elements].index("body") + 1][1]["class"] == "skip"
    (script,) = page.said("script")
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")


def test_markup():
    assert tag("a", "<", Html("<i>"), href='"', aria_label="x", class_=None) == (
        '<a href="&quot;" aria-label="x">&lt;<i></a>'
    )
    assert tag("img", src="x") == '<img src="x">'
    assert data_uri("text/csv", b"a,b") == "data:text/csv;base64,YSxi"


def _figure(rows):
    return Figure("name", f"T {UGLY}", "caption", tag("p", "picture"), ("a", "b,c"), rows)


def test_figure_has_its_numbers():
    page = Page(shown(_figure([(UGLY, 1 / 3), ("y", None)]), "out_csv"))
    (link,) = page.all("a")
    content = base64.b64decode(link["href"].partition("base64,")[2]).decode()
    assert content == _figure([(UGLY, 1 / 3), ("y", None)]).csv()
    assert content.splitlines()[0] == 'a,"b,c"' and "0.3333333333333333" in content
    assert link["download"] == "name.csv" and " (also in out_csv/)" in page.said("p")
    assert page.said("td") == ["0.333333"] and UGLY in page.said("th")
    assert page.said("h3") == [f"T {UGLY}"]


def test_long_data_is_cut_on_the_page_alone():
    page = Page(shown(_figure([(i, i) for i in range(100)]), "x"))
    assert len(page.all("tr")) == 1 + SHOWN
    assert f"the first {SHOWN} of 100 lines" in page.said("caption")[0]


def _colours(block):
    return dict(re.findall(r"--(\w+): (#\w{6})", block))


def _luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a, b):
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme):
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")[:2]
    colours = _colours(light if scheme == "light" else dark[: dark.index("* {")])
    for ink in ("ink", "soft", "accent", "warn"):
        for paper in ("paper", "panel"):
            assert _contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    for line in ("c1", "c2", "c3", "c4", "c5", "c6"):
        assert _contrast(colours[line], colours["paper"]) >= 3, line
    shade = float(re.search(r"--shade: (\.\d+)", light if scheme == "light" else dark)[1])
    both = [[int(colours[k][i : i + 2], 16) for i in (1, 3, 5)] for k in ("accent", "paper")]
    mixed = [round(a * shade + b * (1 - shade)) for a, b in zip(*both, strict=True)]
    assert _contrast(colours["ink"], "#" + "".join(f"{c:02x}" for c in mixed)) >= 4.5


def test_style_loads_nothing_and_shows_the_focus():
    assert "url(" not in STYLE and "@import" not in STYLE and ":focus-visible" in STYLE
    assert "@media print" in STYLE and "prefers-color-scheme: dark" in STYLE
