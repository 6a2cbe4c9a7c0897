"""The files of probes and what is taken of them: areas, intervals, verdicts, columns, the page."""

import json

import pytest

from mmfuse import probe_tables, probes
from mmfuse.errors import InputError
from mmfuse.workdir import Workdir, open_workdir
from tests.records import make_record

FACTS = {"metric": "accuracy", "higher": True, "split": "test", "modalities": ["image", "text"]}
IDENTITY = {"name": "made up", "rows": {"b": {}, "a|c": {}}}
CLEAN = {0: 0.9, 1: 0.8}
MACHINE = {"device": "cpu", "cores": 2, "repeats": 5}


def point(change, modalities, values):
    return {
        "change": change,
        "modalities": modalities,
        **probes.by_seed(values),
        "difference": probes.difference(values, CLEAN),
    }


def train(workdir, other=None):
    """Writes the records of both rows; ``other`` has other parameters than were probed."""
    with open_workdir(workdir.path, IDENTITY) as found:
        for row in ("a|c", "b"):
            for seed in (0, 1):
                sha = "new" if row == other else f"h{seed}"
                found.write_record(make_record(row, seed, CLEAN[seed], params_sha256=sha))


@pytest.fixture
def workdir(tmp_path):
    """Two rows in the order b, a|c; only b has everything."""
    found = Workdir(tmp_path / "w")
    train(found)
    hashes = {"params": {"0": "h0", "1": "h1"}}
    opening = {"run": "b, seeds 0, 1", "purpose": "probe"}
    about = hashes | {"clean": probes.by_seed(CLEAN), "seeds": [0, 1]}
    points = [
        point("removed", ["text"], {0: 0.5, 1: 0.5}),
        point("zeroed", ["text"], {0: 0.6, 1: None}),
        point("shuffled", ["text"], CLEAN),
    ]
    for row in ("a|c", "b"):
        opened = {"openings": [opening | {"run": row}] * 2}
        probes.write_row(found, "modalities", FACTS, row, about | opened | {"points": points})
    area = probes.by_seed({0: 0.75, 1: 0.65})
    curve = {"kind": "noise", "modality": "image", "axis": "SNR (dB)", "x": [0.0, 10.0],
             "points": [probes.by_seed(CLEAN)] * 2, "area": area}  # fmt: skip
    probes.write_row(found, "noise", FACTS, "b", about | opened | {"curves": [curve]})
    line = {"by": "attention", "share": 0.25, "difference": probes.by_seed({0: 0.1, 1: 0.11})}
    line["difference"] = line["difference"]["summary"]
    attention = hashes | {"faithfulness": [line], "shares": {"text": area},
                 "completeness": probes.by_seed({0: 0.001, 1: 0.002})}  # fmt: skip
    probes.write_row(found, "attention", FACTS | {"split": "valid"}, "b", attention)
    batches = [{"batch": 1, "median": 0.002, "low": 0.001, "high": 0.003, "per_example": 0.002}]
    latency = {"batches": batches, "at_one": 0.002, "best_batch": 1, "at_best": 0.002}
    probes.write_row(found, "latency", {}, "b", hashes | latency | MACHINE)
    return found


def test_the_area_is_the_mean_height_of_the_curve():
    assert probes.area([0, 0.25, 1], [1, 0.5, 0]) == pytest.approx(0.25 * 0.75 + 0.75 * 0.25)
    assert probes.area([-10, 0, 20], [3, 3, 3]) == 3
    assert probes.area([0, 1], [1, None]) is None


def test_a_difference_is_paired_by_seed():
    """0.5 - 0.9 and 0.5 - 0.8: mean -0.35, sd 0.0707, t(1) = 12.706."""
    found = probes.difference({0: 0.5, 1: 0.5}, CLEAN)
    assert found["mean"] == pytest.approx(-0.35)
    assert found["high"] - found["mean"] == pytest.approx(12.7062 * 0.05, rel=1e-4)
    assert probes.difference({0: 0.6, 1: None}, CLEAN)["n"] == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.1, 0.11, 0.1), "faithful"),
        ((-0.1, -0.11, -0.1), "worse than random"),
        ((0.3, -0.1, 0.0), "not told apart"),
        ((-0.3, 0.1, 0.0), "not told apart"),
        ((0.1,), "fewer than 3 seeds"),
        ((0.1, 0.11), "fewer than 3 seeds"),  # whose interval is above zero
        ((0.1, 0.1, 0.1), "no spread"),
        ((0.0, 0.0, 0.0), "not told apart"),
        ((), "nothing to delete"),
    ],
)
def test_a_verdict_is_that_of_the_interval(values, said):
    assert probes.verdict(probes.by_seed(dict(enumerate(values)))["summary"]) == said


def test_a_later_call_replaces_only_its_rows(workdir):
    before = probes.read(workdir)["modalities"]["rows"]
    probes.write_row(workdir, "modalities", FACTS, "b", {"points": [], "clean": before["b"]})
    after = probes.read(workdir)["modalities"]["rows"]
    assert after["a|c"] == before["a|c"] and after["b"]["points"] == []


def test_a_row_that_is_timed_elsewhere_leaves_the_facts_of_the_others(workdir):
    entry = probes.read(workdir)["latency"]["rows"]["b"]
    told = {"device": "NVIDIA H100", "cores": 16, "repeats": 20}
    probes.write_row(workdir, "latency", {}, "a|c", entry | told)
    rows = probes.read(workdir)["latency"]["rows"]
    assert rows == {"b": entry, "a|c": entry | told} and MACHINE.items() <= entry.items()
    page = probe_tables.page(workdir)
    assert "- b: medians of 5 calls in turns on cpu, 2 cores," in page
    assert "- a\\|c: medians of 20 calls in turns on NVIDIA H100, 16 cores," in page


def test_shared_facts_of_older_files_are_those_of_every_row(workdir):
    file = probes.path(workdir, "latency")
    content = json.loads(file.read_text())
    for key in MACHINE:
        content[key] = content["rows"]["b"].pop(key)
    file.write_text(json.dumps(content))
    assert MACHINE.items() <= probes.read(workdir)["latency"]["rows"]["b"].items()
    assert "Medians of 5 calls in turns on cpu, 2 cores," in probe_tables.page(workdir)


@pytest.mark.parametrize("content", ["{", '{"format": 7, "rows": {}}', "[]"])
def test_a_damaged_file_is_named(workdir, content):
    probes.path(workdir, "noise").write_text(content)
    with pytest.raises(InputError, match=r"noise\.json' (is damaged|has format 7)"):
        probes.read(workdir)


def test_the_page_says_all_of_it_in_the_order_of_the_config(workdir):
    page = probe_tables.page(workdir)
    lines = page.splitlines()
    removed = lines.index("**Accuracy (%) when a modality is removed: the mask says that it is "
                          "absent**")  # fmt: skip
    assert lines[removed + 2] == "| Method | Clean | Δ text |"
    assert lines[removed + 4] == "| b | 85.00 ± 7.07 | -35.00 [-98.53, +28.53] |"
    assert lines[removed + 5].startswith("| a\\|c | 85.00")
    assert "| b | 85.00 ± 7.07 | -30.00 |" in lines  # zeroed: one seed has no interval
    assert "| b | 85.00 ± 7.07 | 70.00 [6.47, 133.53] |" in lines
    assert "| b | attention | +10.50 [+4.15, +16.85] fewer than 3 seeds |" in lines
    assert "none is corrected for the number of lines." in page
    assert "| b | 2.000 | [1.000, 3.000] | 1 | 2.0000 |" in lines
    assert "opened for all this: 4." in page  # noise names those of b again


def test_a_row_that_was_trained_again_is_left_out_and_named(workdir):
    train(workdir, other="b")
    page = probe_tables.page(workdir)
    assert "| a\\|c | 85.00" in page and "| b |" not in page and "Latency" not in page
    said = "not those of the records any more: b (modalities, noise, attention, latency). Probe"
    assert said in page and "opened for all this: 4." in page
