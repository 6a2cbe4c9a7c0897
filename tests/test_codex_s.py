import itertools
from pathlib import Path

import numpy as np
import pytest

from mmfuse.ablation import resolve
from mmfuse.build import build_model
from mmfuse.config import load_config
from mmfuse.data import codex_s, raw, safe
from mmfuse.data.datasets import files_fingerprint
from mmfuse.data.graph import read_triples
from mmfuse.data.loader import Dataset
from mmfuse.errors import InputError
from tests.graph_files import SPLITS, left_out, place, prepared, rows, trust, write_lines

FILES = ("TRAIN", "VALID", "TEST")
GRAPH = {  # Q9 before Q10: by number, not by letter
    "TRAIN": ["Q9 P1 Q10", "Q9 P1 Q11", "Q10 P2 Q9", "Q12 P1 Q10"],
    "VALID": ["Q9 P1 Q12"],
    "TEST": ["Q11 P2 Q9"],
}
TYPED = {
    "entity": np.array(["Q12", "Q11", "Q10", "Q9"]),
    "relation": np.array(["P2", "P1"]),
    "valid_negatives": np.array([[3, 1, 1], [2, 0, 0]], np.int32),  # Q9 P1 Q11, Q10 P2 Q12
    "test_negatives": np.array([[1, 0, 2]], np.int32),  # Q11 P2 Q10
    "type_label": np.array(["human", "city"]),
    "type_description": np.array(["one of us", ""]),
    "entity_type_pair": np.array([[3, 0], [3, 1], [2, 1], [0, 0]], np.int32),  # Q11 has none
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    write(tmp_path / "raw", monkeypatch)
    return tmp_path / "raw"


def write(root, monkeypatch, graph=GRAPH, typed=TYPED):
    for name in FILES:
        write_lines(root, getattr(codex_s, name), [line.replace(" ", "\t") for line in graph[name]])
    np.savez(place(root, codex_s.PACKED), **typed)
    trust(root, codex_s, monkeypatch, *FILES, "PACKED")


def test_a_triple_is_asked_in_both_directions(folder, tmp_path):
    builder = prepared("codex_s", folder, tmp_path / "data")
    first, turned, *others = rows(builder, "train")
    assert [builder.info.splits[split].num_examples for split in SPLITS] == [6, 2, 2]
    assert (first["id"], turned["id"]) == (b"train-0", b"train-1")
    assert [row["id"] for row in rows(builder, "test")] == [b"test-0-tail", b"test-0-head"]
    assert first["group"] != turned["group"]  # in training a question is an example
    asked = [[*row["entity"], *row["relation"], row["label"]] for row in (first, turned)]
    assert asked == [[0, 0, 1], [1, 2, 0]]
    assert [row["label_group"] for row in (first, turned)] == [0, 2]
    assert first["types"] == b"human: one of us; city"
    assert turned["types"] == b"city"
    assert first["type_ids"].tolist() == [0, 1]
    absent = next(row for row in others if row["entity"][0] == 2)  # Q11
    assert (absent["types"], absent["type_ids"].size) == (b"", 0)
    card = builder.info.metadata
    assert (card["entities"], card["groups"], card["relations"]) == (4, 4, ["P1", "P2"])
    assert card["group_names"] == ["P1", "P2", "P1 reversed", "P2 reversed"]
    assert card["ids"]["type_ids of an entity, at most"] == 2


def test_training_asks_a_question_once_for_all_its_answers(folder, tmp_path):
    builder = prepared("codex_s", folder, tmp_path / "data")
    asked = {
        (row["entity"][0], row["relation"][0]): (row["label"], told(row))
        for row in rows(builder, "train")
    }
    assert asked == {  # Q9, Q10, Q11, Q12 are 0 to 3; P1, P2 reversed are 2, 3
        (0, 0): (1, {1, 2}), (1, 2): (0, {0, 3}), (2, 2): (0, {0}),
        (1, 1): (0, {0}), (0, 3): (1, {1}), (3, 0): (1, {1}),
    }  # fmt: skip
    assert all(label in answers for label, answers in asked.values())
    assert not any(told(row) for split in ("valid", "test") for row in rows(builder, split))


def told(row):
    return left_out({"label_filter": row["label_answers"]}, 4)


def test_the_filter_knows_all_splits_and_training_holds_none(folder, tmp_path):
    builder = prepared("codex_s", folder, tmp_path / "data")
    assert not any(left_out(row, 4) for row in rows(builder, "train"))
    tail, head = rows(builder, "valid")  # Q9 P1 Q12
    assert left_out(tail, 4) == {1, 2, 3}
    assert left_out(head, 4) == {0}
    tail, head = rows(builder, "test")  # Q11 P2 Q9
    assert left_out(tail, 4) == {0}
    assert left_out(head, 4) == {1, 2}


def test_labels_alone(folder, tmp_path):
    builder = prepared("codex_s", folder, tmp_path / "data", types="labels")
    assert rows(builder, "train")[0]["types"] == b"human; city"
    with pytest.raises(InputError, match="did you mean 'labels'"):
        codex_s.CodexSConfig(types="label")


def test_chinese_labels_leave_out_what_has_none(tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    write(tmp_path / "raw", monkeypatch, typed=TYPED | {"type_label_zh": np.array(["人", ""])})
    builder = prepared("codex_s", tmp_path / "raw", tmp_path / "data", types="labels_zh")
    first, turned, *_ = rows(builder, "train")  # Q9 is both, Q10 a city
    assert (first["types"].decode(), turned["types"]) == ("人", b"")
    assert first["type_ids"].tolist() == [0, 1]


def test_triples_are_judged_with_upstreams_negatives(folder, tmp_path):
    builder = prepared("codex_s", folder, tmp_path / "data", task="triples")
    train, valid, test = (rows(builder, split) for split in SPLITS)
    assert len(train) == 6 and not any(row["label_role"] for row in train)
    keys = ("label_group", "label", "label_true", "label_role", "label_place")

    def said(part):
        return [[row["entity"][0], *(row[key] for key in keys)] for row in part]

    assert said(valid) == [[0, 0, 3, 1, 3, 0], [0, 0, 2, 0, 3, 1], [1, 1, 3, 0, 3, 2]]
    assert said(test)[:2] == [[2, 1, 0, 1, 1, 0], [2, 1, 1, 0, 1, 1]]
    assert said(test)[2:] == [[*row[:4], 2, row[5] + 2] for row in said(valid)]
    assert builder.info.metadata["triples"] == 5
    assert not any(told(row) for row in valid + test)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([[4, 0, 0]], "valid_negatives names what is beyond"),
        ([[4, 0, 1]], "'Q77', which no triple"),
    ],
)
def test_negatives_beyond_the_graph_are_refused(wrong, said, tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    more = ["Q77"] if "Q77" in said else []
    typed = TYPED | {"valid_negatives": np.array(wrong, np.int32)}
    typed["entity"] = np.array([*TYPED["entity"].tolist(), *more])
    write(tmp_path / "raw", monkeypatch, typed=typed)
    with pytest.raises(InputError, match=said):
        prepared("codex_s", tmp_path / "raw", tmp_path / "data", task="triples")


def test_preparing_twice_gives_the_same_bytes(folder, tmp_path):
    once, again = (prepared("codex_s", folder, tmp_path / name) for name in "ab")
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("TRAIN", ["Q9 P1 Q10", "Q9 P1"], "train.txt, line 2: 2 cells; expected 3"),
        ("TRAIN", ["Q9 P1 Q10", "Q9 P1 Q10"], "line 2: the triple of line 1 again"),
        ("TRAIN", ["Q9  Q10"], "line 1: a triple with an empty name"),
        ("TRAIN", ["Q9 P1 X10"], "'X10' is no Q-number"),
        ("TEST", ["Q9 P1 Q12"], "a triple is in two of the files train, valid, test"),
        ("TEST", ["Q9 P1 Q77"], "no types of 1 entities, first Q77"),
    ],
)
def test_malformed_triples_are_named(name, lines, said, tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    write(tmp_path, monkeypatch, GRAPH | {name: lines})
    with pytest.raises(InputError, match=said):
        prepared("codex_s", tmp_path, tmp_path / "data")


@pytest.mark.parametrize("pair", [[4, 0], [0, 2], [-1, 0]])
def test_a_pair_beyond_the_lists_is_refused(pair, tmp_path, monkeypatch):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    write(tmp_path, monkeypatch, typed=TYPED | {"entity_type_pair": np.array([pair])})
    with pytest.raises(InputError, match="names an entity or a type beyond the lists"):
        prepared("codex_s", tmp_path, tmp_path / "data")


def test_it_is_a_task_of_links_to_the_loader(folder, tmp_path):
    preprocess = {
        "entity": {"name": "identity", "size": 4},
        "relation": {"name": "identity", "size": 4},
        "type_ids": {"name": "identity", "size": 2, "length": 2},
        "types": {"name": "text", "min_count": 1, "stop_words": False},
    }
    builder = prepared("codex_s", folder, tmp_path / "data")
    dataset = Dataset(builder, preprocess, resident_bytes=2**20)
    batch = next(dataset.open_test(4, run="test", purpose="test"))
    assert batch["label"]["entity"].tolist() == [0, 2, 2, 2]  # padded with the last
    assert batch["label"]["filter"].shape == (4, 1)
    assert batch["given"]["relation"].tolist() == [1, 3, 3, 3]
    assert not batch["masks"]["types"][0].any()  # of Q11 nothing is known
    assert dataset.test_groups().tolist() == [0, 0]  # one triple, both ways


def test_a_skip_of_what_the_data_has_not_is_named(folder, tmp_path):
    config = load_config(str(Path(__file__).parent.parent / "configs" / "knowledge_graph.py"))
    config.head.skip = "entty"
    ablation = resolve(config)
    builder = prepared("codex_s", folder, tmp_path / "data")
    dataset = Dataset(builder, ablation.data["preprocess"], resident_bytes=2**20)
    assert dataset.preprocessors["entity"].size == 4  # as the card says
    with pytest.raises(InputError, match=r"config\.head\.skip: .* 'entty'; did you mean 'entity'"):
        build_model(ablation.rows[0], dataset)


@pytest.fixture(scope="module")
def real(raw_data, tmp_path_factory):
    path = raw.place(codex_s.PACKED, Path(raw_data))
    if not path.exists():
        pytest.skip("needs codex_s.npz beside the upstream files")
    return safe.read_npz(path), tmp_path_factory.mktemp("codex_s")


def test_the_real_graph_is_numbered_as_the_packed_file(real, raw_data):
    """32,888/1,827/1,828 triples, 2,034 entities, 42 relations: as the file that others use."""
    packed, _ = real
    triples = {f: read_triples(Path(raw_data) / getattr(codex_s, f).path) for f in FILES}
    assert [len(part) for part in triples.values()] == [32_888, 1_827, 1_828]
    entities, relations = codex_s.names(list(itertools.chain(*triples.values())))
    assert entities == packed["entity"].tolist()
    assert relations == packed["relation"].tolist()
    assert (len(entities), len(relations)) == (2_034, 42)
    for name, part in triples.items():
        found = codex_s.numbered(part, entities, relations)
        np.testing.assert_array_equal(found, packed[name.lower()])
    assert {end for row in triples["TRAIN"] for end in (row[0], row[2])} == set(entities)


def test_the_real_examples_have_filters_and_types(real, raw_data, monkeypatch):
    packed, folder = real
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    builder = prepared("codex_s", raw_data, folder)
    assert [builder.info.splits[s].num_examples for s in SPLITS] == [11_867, 3_654, 3_656]
    test, together = rows(builder, "test"), np.concatenate([packed[n.lower()] for n in FILES])
    for row in (test[0], test[1], test[-1]):
        given, relation = row["entity"][0], row["relation"][0]
        ends, kind = ((2, 0), relation) if relation < 42 else ((0, 2), relation - 42)
        asked = (together[:, ends[1]] == given) & (together[:, 1] == kind)
        assert left_out(row, 2_034) == set(together[asked, ends[0]].tolist())
        assert row["label"] in left_out(row, 2_034)
    assert all(row["types"] for row in test)
    assert builder.info.metadata["ids"]["type_ids of an entity, at most"] == 13
    asked = rows(builder, "train")
    assert sum(len(left_out({"label_filter": r["label_answers"]}, 2_034)) for r in asked) == 65_776
