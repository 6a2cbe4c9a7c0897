"""What may never stand in one table is refused, by name and with both values."""

import copy

import pytest

from mmfuse.errors import InputError
from mmfuse.mixing import refuse_mixed
from mmfuse.summary import summarise
from tests.records import all_records


@pytest.fixture
def records():
    return all_records()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"data": {"name": "helpdesk", "fingerprint": "0", "card": {"clips": 3}}},
            "data.fingerprint",
        ),
        ({"replica_width": 1}, r"replica_width is 3 in row 'text' seed 0 and 1 in row 'cross_att"),
        ({"device": {"kind": "H200", "count": 2}}, r"device\.kind is 'cpu' .* and 'H200'"),
        ({"mode": "jit"}, "mode"),
        ({"versions": {"mmfuse": "0.1.0", "jax": "0.11.0", "python": "3.11.7"}}, r"versions\.jax"),
        ({"code_sha256": "a" * 64}, "code_sha256"),
        ({"reference": []}, "reference"),
        ({"format": 2}, "format"),
        ({"surprise": 1}, "surprise is 'nothing' in"),
        (
            {"config": {"seeds": [0], "fusion": {"name": "cross_attention"}, "train": {"lr": 0.1}}},
            "seeds",
        ),
    ],
)
def test_unlike_records_are_refused(records, change, said):
    records[-1] |= change
    with pytest.raises(InputError, match=said) as error:
        summarise(records)
    assert "\n" not in str(error.value)


def test_another_commit_of_the_same_code_is_told_and_allowed(records):
    records[-1]["git"] = {"commit": "a" * 40, "dirty": False, "diff": None}
    notes = " ".join(summarise(records).notes)
    assert "git 0123456789ab + local changes feedbeef, aaaaaaaaaaaa." in notes


def test_config_may_differ_only_where_the_row_says_so(records):
    for record in records[3:6]:
        record["config"] = copy.deepcopy(record["config"])
        record["config"]["train"]["lr"] = 0.2
    with pytest.raises(InputError, match=r"config\.train\.lr is 0\.1 in row 'text'"):
        refuse_mixed(records)
    for record in records[3:6]:
        record["row_config"] = {"fusion": {}, "train": {"lr": 0.2}}
    refuse_mixed(records)
    records[4]["config"] = records[4]["config"] | {"fusion": {"name": "other"}}
    with pytest.raises(InputError, match=r"config\.fusion\.name .* seed 0 .* seed 1"):
        refuse_mixed(records)  # within one row nothing differs


def test_same_run_twice_is_refused(records):
    with pytest.raises(InputError, match="two records of row 'text', seed 1"):
        refuse_mixed([*records, copy.deepcopy(records[1])])
