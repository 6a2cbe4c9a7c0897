"""The sortable table: the same text as Markdown, and what it is sorted by."""

import pytest

from mmfuse.report.grid import main_table, simple_table, sort_key
from mmfuse.summary import summarise
from mmfuse.tables import render
from tests.records import all_records, make_record
from tests.report.pages import UGLY, Page, check_page, report_records


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("93.21 ± 0.45", "93.21"), ("-1.30 [-2.00, -0.60]", "-1.3"), ("+0.20", "0.2"),
        ("12,345", "12345.0"), ("1.23 M", "1230000.0"), ("616 k", "616000.0"), ("12.3 s", "12.3"),
        ("2/3, 1 diverged", "2.0"), ("baseline", "baseline"), ("-", ""), ("", ""),
        ("93.21 ± 0.45 †", "93.21"), ("2,000,000 T", "2e+18"), ("3D conv", "3D conv"),
    ],
)  # fmt: skip
def test_sort_key(text, key):
    assert sort_key(text) == key


def test_same_text_as_markdown():
    table = summarise(report_records(), baseline="concat", command="a & b")
    lines = [x for x in render(table, "md").splitlines() if x.startswith("| ")]
    wanted = [[c.strip().strip("*") for c in x.strip("|").split(" | ")] for x in lines]
    wanted = [x for x in wanted if not x[0].startswith(("--", "——")) and "script" not in x[0]]
    page = check_page(render(table, "html"))
    found = []
    for tag, text in page.texts:
        if tag in ("th", "td", "b", "button") and text.strip():
            found.append(text.replace("\u00a0", " "))
    flat = [cell for line in wanted for cell in line if cell]
    ugly = next(i for i, text in enumerate(found) if text == UGLY)
    columns = len(wanted[0])
    assert found[:ugly] + found[ugly + columns :] == flat
    assert page.said("li") == [*table.notes, *table.local_notes]


def test_structure():
    records = report_records()
    page = Page(main_table(summarise(records), "All <scores>"))
    heads = [a for a in page.all("th") if a["scope"] == "col"]
    assert all(a["aria-sort"] == "none" for a in heads) and len(heads) == len(page.all("button"))
    assert len(page.all("tbody")) == 2 and page.said("caption") == ["All <scores>"]
    region = page.all("div")[0]
    assert (region["role"], region["tabindex"], region["aria-label"]) == (
        "region",
        "0",
        "All <scores>",
    )


def test_no_empty_body_without_bounds():
    records = [make_record("a", s, 0.5, reference=[]) for s in range(2)]
    for record in records:
        del record["metrics"]["test"]["confusion"]
    table = summarise(records)
    bodies = len(Page(main_table(table, "c")).all("tbody"))
    assert bodies == 1 + bool(table.references or table.floors)


def test_names_are_escaped():
    for text in (
        render(summarise(report_records()), "html"),
        simple_table("c", ["<h>"], [[UGLY, UGLY]]),
    ):
        assert "<script>alert" not in text and "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in text


def test_html_of_the_table_alone_is_one_page():
    text = render(summarise(all_records()), "html")
    page = check_page(text)
    assert text.startswith("<!doctype html>\n") and text.endswith("</html>\n")
    assert len(page.all("table")) == 1 and "82.00 ± 2.65" in page.said("td")
