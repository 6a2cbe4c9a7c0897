import json

import pytest

from mmfuse.data import safe
from mmfuse.data.safe import texts
from tests.safe.faults import fault


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"\xef\xbb\xbf", ""),
        (b"\xef\xbb\xbfa\xef\xbb\xbfb", "a\ufeffb"),
        (b"caf\xe9", "caf\ufffd"),
        (b"\xff\xfeh\0", "\ufffd\ufffdh\0"),
        (b"\xe4\xb8x", "\ufffdx"),  # the start of a letter is one sequence
        (b"\xed\xa0\x80", "\ufffd" * 3),  # half a surrogate pair
        ("ＦＵＬＬ　ｗｉｄｔｈ １２３".encode(), "ＦＵＬＬ　ｗｉｄｔｈ １２３"),
        ("👩‍👩‍👧 \r\n".encode(), "👩‍👩‍👧 \r\n"),
    ],
)
def test_the_rule_for_text(tmp_path, data, text):
    (tmp_path / "a.txt").write_bytes(data)
    assert safe.read_text(tmp_path / "a.txt") == text
    assert safe.read_text(data) == text


def test_a_limit_of_size(tmp_path):
    (tmp_path / "a").write_bytes(b"[" * 100)
    for read in (safe.read_text, safe.read_csv, safe.read_jsonl, safe.read_json):
        message = fault(read, tmp_path / "a", max_bytes=99)
        assert message == f"{tmp_path}/a: 100 bytes; at most 99 bytes are read"


def test_a_table_has_the_line_of_every_row():
    data = b'\xef\xbb\xbfid,text\r\n1,"a ""b"", c"\r\n\r\n2,"two\nlines"\r\n3,\xff\n4,'
    assert safe.read_csv(data) == [
        (2, {"id": "1", "text": 'a "b", c'}),
        (4, {"id": "2", "text": "two\nlines"}),
        (6, {"id": "3", "text": "\ufffd"}),
        (7, {"id": "4", "text": ""}),
    ]
    assert safe.read_csv(b"id\n") == []
    assert safe.read_csv(b"\nid\n1\n") == [(3, {"id": "1"})]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "line 1: no header"),
        (b"a,b,a\n1,2,3", "line 1: two columns are named 'a'"),
        (b"a,,c\n1,2,3", "line 1: column 2 has no name"),
        (b"a,b\n1,2\n1\n", "line 3: 1 cells; there are 2 columns"),
        (b"a,b\n1,2,3\n", "line 2: 3 cells; there are 2 columns"),
        (b'a,b\n1,"2\n3,4\n', "line 2: unexpected end of data"),
        (b'a,b\n1,"2"x\n', "line 2: "),
        (b"a,b\n1,\0\n", "line 2: a NUL byte"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1: a NUL byte"),
        (b"a\n" + b"x" * 100_001, "line 2: more than 4096 cells, or 100000 characters"),
        (b"a\n" + b"x" * 200_000, "line 2: field larger than field limit"),
        (b"a," * 4096 + b"b\n", "line 1: more than 4096 cells"),
    ],
)
def test_tables_that_are_refused_by_line(data, words):
    assert f"t.csv, {words}" in fault(safe.read_csv, data, name="t.csv")


def test_the_number_of_cells_is_limited(monkeypatch):
    monkeypatch.setattr(texts, "MAX_CELLS", 4)
    assert len(safe.read_csv(b"a,b\n1,2\n3,4\n")) == 2
    assert "line 4: more than 4 cells" in fault(safe.read_csv, b"a,b\n1,2\n3,4\n5,6\n")
    assert len(safe.read_jsonl(b'{"a":1}\n{"a":1}\n')) == 2
    assert "line 3: more than 4 values" in fault(safe.read_jsonl, b'{"a":1}\n' * 3)
    assert "more than 4 values" in fault(safe.read_json, b"[1,2,3,4]")


def test_rows_without_a_header(monkeypatch):
    data = b"\xef\xbb\xbfa\tb\r\n\n\xff\t \nc\t"
    assert safe.read_rows(data, "\t", 2) == [(1, ["a", "b"]), (3, ["\ufffd", " "]), (4, ["c", ""])]
    assert safe.read_rows(b"a|b", "|", 2) == [(1, ["a", "b"])]
    assert "line 2: 1 cells; expected 2" in fault(safe.read_rows, b"a|b\nc", "|", 2)
    assert "line 1: a NUL byte" in fault(safe.read_rows, b"a|\0", "|", 2)
    monkeypatch.setattr(texts, "MAX_CELLS", 4)
    assert "line 3: more than 4 cells" in fault(safe.read_rows, b"a|b\n" * 3, "|", 2)


def test_json_lines_have_their_line():
    data = b'\xef\xbb\xbf{"a": [1, {"b": null}]}\n\n{"a": "\xff \\u00e9"}\r\n{}'
    assert safe.read_jsonl(data) == [
        (1, {"a": [1, {"b": None}]}),
        (3, {"a": "\ufffd é"}),
        (4, {}),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1]", "a JSON array; need an object"),
        ("null", "a JSON null"),
        ("true", "a JSON boolean"),
        ("1.5", "a JSON number"),
        ('"x"', "a JSON string"),
        ('{"a": 1', "not JSON (Expecting"),
        ("{'a': 1}", "not JSON"),
        ('{"a": 1, "b": 2, "a": 3}', "key 'a' comes twice"),
        ('{"a": NaN}', "not JSON (NaN is no JSON number)"),
        ('{"a": -Infinity}', "not JSON (-Infinity"),
        ('{"a": 1e999}', "1e999 is beyond float64"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ('{"a\\udfff": 1}', "half a surrogate pair"),
        ('{"a": ' + "[" * 33 + "]" * 33 + "}", "more than 32 levels"),
        ('{"a":' * 5000, "more than 32 levels"),
        ('{"a": "\0"}', "a NUL byte"),
        ('{"a": "' + "x" * (1 << 22) + '"}', "more than 4194304 characters"),
    ],
)
def test_json_that_is_refused_by_line(line, words):
    data = b'{"ok": 1}\n\n' + line.encode() + b"\n"
    message = fault(safe.read_jsonl, data, name="t.jsonl")
    assert message.startswith("t.jsonl, line 3: ")
    assert words in message


def test_one_json_value():
    assert safe.read_json(json.dumps([1, {"a": "é"}]).encode()) == [1, {"a": "é"}]
    assert "a.json: not JSON" in fault(safe.read_json, b"[1", name="a.json")
    assert "more than 32 levels" in fault(safe.read_json, b"[" * 100_000)
