"""Manifests as text: their two forms, their characters, their headers."""

import json

import pytest

from mmfuse.data.own.table import read_table
from mmfuse.errors import InputError

HEAD = "id,split,label,note\n"


def table(folder, text, name="my.csv"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(folder / name)


def faults(folder, text, name="my.csv"):
    return [str(problem) for problem in table(folder, text, name).problems]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ｆｕｌｌ　ｗｉｄｔｈ".encode(), "ｆｕｌｌ　ｗｉｄｔｈ"),
        ("退款，谢谢 👩🏽‍🚀".encode(), "退款，谢谢 👩🏽‍🚀"),
        (b"na\xefve", "na\ufffdve"),
        (b'"two\r\nlines, ""quoted"""', 'two\r\nlines, "quoted"'),
        ("line\u2028separator".encode(), "line\u2028separator"),
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_characters(written, read, mark, tmp_path):
    found = table(tmp_path, mark + HEAD.encode() + b"a,train,x," + written + b"\n")
    assert found.problems == ()
    assert found.rows[0].cells == {"id": "a", "split": "train", "label": "x", "note": read}
    line = json.dumps({"id": "a", "split": "train", "label": "x", "note": read}, ensure_ascii=False)
    found = table(tmp_path, mark + line.encode(), "my.jsonl")
    assert found.problems == ()
    assert found.rows[0].cells["note"] == read


def test_rows_are_numbered_as_a_spreadsheet_does(tmp_path):
    text = HEAD + 'a,train,x,"one\ntwo"\n\nb,train,x,three\n'
    assert [row.number for row in table(tmp_path, text).rows] == [2, 4]


def test_kinds(tmp_path):
    head = "id,split,label,note,story,photo,voice,pose,_source\n"
    found = table(tmp_path, head + "a,train,x,see b.png,c.TXT,d.JPG,e.ogg,f.npz,g\n")
    assert found.kinds == {
        "note": "text", "story": "text file", "photo": "picture", "voice": "sound",
        "pose": "features",
    }  # fmt: skip
    assert found.modalities["story"] == "text"
    assert table(tmp_path, HEAD + "a,train,x,b c.png\n").kinds == {"note": "text"}
    (tmp_path / "b c.png").touch()
    assert table(tmp_path, HEAD + "a,train,x,b c.png\n").kinds == {"note": "picture"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "id,spilt,label,note\na,train,x,t\n",
            "row 1, column 'split': missing column; did you mean 'spilt'?; "
            "there are: id, spilt, label, note",
        ),
        (
            "id,split,class,note\na,train,x,t\n",
            "row 1, column 'label': missing column (or 'target'); there are: id, split, class",
        ),
        (
            "id,split,label,target,note\na,train,x,1,t\n",
            "row 1, column 'label': give label or target, not both",
        ),
        (
            "id,split,label,note,note\na,train,x,t,t\n",
            "row 1, column 'note': bad header: 2 columns have this name",
        ),
        (
            "id,split,label,my note\na,train,x,t\n",
            "row 1, column 'my note': bad header: 'my note'; use letters, digits and _ only",
        ),
        (
            "id,split,label,note,\na,train,x,t,\n",
            "row 1: bad header: ''; use letters, digits and _ only",
        ),
        ("id,split,label\na,train,x\n", "no column holds a modality: add one, such as 'text'"),
        (HEAD, "no rows of examples"),
        (HEAD + "a,train,x\n", "row 2, column 'note': ragged: 3 cells, but the header has 4"),
        (HEAD + "a,train,x,t,u\n", "row 2: ragged: 5 cells, but the header has 4"),
        (HEAD + 'a,train,x,"t\n', "row 2: not readable as CSV: unexpected end of data"),
        (HEAD + 'a,train,x,"t"u\n', "row 2: not readable as CSV: ',' expected after '\"'"),
        (
            "id;split;label;note\n",
            "row 1: one cell, 'id;split;label;note': separate cells by comma",
        ),
        (HEAD + f"a,train,x,{'t' * 140_000}\n", "row 2: not readable as CSV: field larger than"),
        ("", "row 1, column 'id': missing column"),
        (HEAD + "a,train,x,\n", "column 'note': bad header: every cell of the column is empty"),
    ],
)
def test_headers_and_rows(text, said, tmp_path):
    assert any(found.startswith(said) for found in faults(tmp_path, text)), faults(tmp_path, text)


def test_reading_goes_on_after_a_row_that_cannot_be_read(tmp_path):
    found = table(tmp_path, HEAD + 'a,train,x,"t"u\nb,train\nc,train,x,t\n')
    assert [problem.row for problem in found.problems] == [2, 3]
    assert [row.number for row in found.rows] == [4]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "row 2: not readable as JSON"),
        ("[" * 100_000, "row 2: not readable as JSON"),
        ('[["id", "a"]]', "row 2: not a JSON object such as {...}"),
        ('{"id": true}', "row 2, column 'id': must be a string, a number or null"),
        ('{"id": ["a"]}', "row 2, column 'id': must be a string, a number or null"),
        ('{"id": {"a": 1}}', "row 2, column 'id': must be a string, a number or null"),
        ('{"id": "a", "id": "b"}', "row 2, column 'id': given twice in one object"),
    ],
)
def test_json_lines(line, said, tmp_path):
    first = '{"id": 7, "split": "train", "label": 0, "note": "t"}\n'
    found = faults(tmp_path, first + line + "\n", "my.jsonl")
    assert len(found) == 1
    assert found[0].startswith(said)


def test_json_numbers_and_lone_surrogates(tmp_path):
    line = r'{"id": 7, "split": "train", "target": -1.50, "note": "a\ud800b", "more": NaN}'
    cells = table(tmp_path, line, "my.jsonl").rows[0].cells
    assert cells == {
        "id": "7", "split": "train", "target": "-1.50", "note": "a\ufffdb", "more": "NaN"
    }  # fmt: skip


def test_what_is_no_manifest(tmp_path):
    (tmp_path / "my.csv").touch()
    with pytest.raises(InputError, match=r"no manifest '.*mi.csv'; did you mean '.*my.csv'\?"):
        read_table(tmp_path / "mi.csv")
    with pytest.raises(InputError, match=r"must end in .csv or .jsonl"):
        read_table(tmp_path / "my.xlsx")
    with pytest.raises(InputError, match="is not UTF-8; save it as UTF-8"):
        table(tmp_path, HEAD.encode("utf-16"))
