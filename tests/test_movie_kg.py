import json
from pathlib import Path

import numpy as np
import pytest

from mmfuse.data import movie_kg, raw, safe
from mmfuse.data.datasets import files_fingerprint
from mmfuse.data.graph import frequency, read_triples
from mmfuse.errors import InputError
from tests.graph_files import SPLITS, left_out, place, prepared, rows, trust, write_lines

TRIPLES = [
    ("ml1m:7", "starring", "person:Ann"),
    ("ml1m:7", "starring", "person:Bob: the 2nd"),
    ("ml1m:7", "genre", "genre:Drama"),
    ("ml1m:2", "starring", "person:Ann"),
    ("ml1m:2", "genre", "genre:Comedy"),
    ("ml1m:9", "starring", "person:Ann"),
    ("ml1m:9", "genre", "genre:Drama"),
]
FILMS = [{"ml1m_id": n, "title": f"T{n} (1999)", "plot": f"plot of {n}"} for n in (7, 2, 9)]
NUMBERED = [[0, 1, 5], [0, 1, 6], [0, 0, 4], [1, 1, 5], [1, 0, 3], [2, 1, 5], [2, 0, 4]]
NAMES = ("TRIPLES", "FILMS", "PACKED", "POSTERS")
PACKED = {
    "triple": np.array(NUMBERED, np.int32),
    "split_transductive": np.array([0, 1, 2, 0, 0, 0, 0], np.int8),
    "split_inductive": np.array([0, 0, 0, 1, -1, 2, 2], np.int8),
    "film_poster_row": np.array([2, 0, 3], np.int32),
}
PICTURES = {
    "poster": np.random.default_rng(0).integers(0, 256, (4, *movie_kg.POSTER), np.uint8),
    "poster_ml1m_id": np.array([2, 1, 7, 9], np.int32),
}


def write(root, monkeypatch, triples=TRIPLES, films=FILMS, packed=PACKED, pictures=PICTURES):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    write_lines(root, movie_kg.TRIPLES, ["\t".join(triple) for triple in triples])
    write_lines(root, movie_kg.FILMS, [json.dumps(film) for film in films])
    np.savez(place(root, movie_kg.PACKED), **packed)
    np.savez(place(root, movie_kg.POSTERS), **pictures)
    trust(root, movie_kg, monkeypatch, *NAMES)
    return root


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return write(tmp_path / "raw", monkeypatch)


def test_a_film_asks_for_its_tails(folder, tmp_path):
    builder = prepared("movie_kg", folder, tmp_path / "data")
    assert [builder.info.splits[split].num_examples for split in SPLITS] == [5, 1, 1]
    asked = {(r["film"][0], r["relation"][0]): told(r) for r in rows(builder, "train")}
    assert asked == {(0, 1): {2}, (1, 1): {2}, (1, 0): {0}, (2, 1): {2}, (2, 0): {1}}
    assert all(int(row["group"]) == row["film"][0] for row in rows(builder, "train"))
    (row,) = rows(builder, "valid")
    assert not told(row)
    assert (row["film"].tolist(), row["relation"].tolist()) == ([0], [1])
    assert (row["label"], row["label_group"], row["plot"]) == (3, 1, b"plot of 7")
    np.testing.assert_array_equal(row["poster"], PICTURES["poster"][2])
    card = builder.info.metadata
    assert card["entities"] == 4 and card["groups"] == 2
    assert card["relations"] == ["genre", "starring"]
    assert card["kinds"] == {"genre": "genre", "starring": "person"}


def told(row):
    return left_out({"label_filter": row["label_answers"]}, 4)


def test_the_rank_is_among_the_tails_kind_or_all(folder, tmp_path):
    (row,) = rows(prepared("movie_kg", folder, tmp_path / "data"), "valid")
    assert left_out(row, 4) == {0, 1} | {2, 3}  # no person, and the known ones
    (row,) = rows(prepared("movie_kg", folder, tmp_path / "data", candidates="all"), "valid")
    assert left_out(row, 4) == {2, 3}
    assert not any(left_out(row, 4) for row in rows(prepared("movie_kg", folder, tmp_path / "data"),
                                                    "train"))  # fmt: skip


def test_a_cold_film_has_no_id_but_its_plot_and_poster(folder, tmp_path):
    builder = prepared("movie_kg", folder, tmp_path / "data", split="inductive")
    found = {split: rows(builder, split) for split in SPLITS}
    assert [len(part) for part in found.values()] == [2, 1, 2]
    assert [row["film"].tolist() for row in found["train"]] == [[0]] * 2
    assert told(found["train"][0]) == {2, 3}
    for row in found["valid"] + found["test"]:
        assert row["film"].size == 0 and row["plot"] and row["poster"].any()
    assert left_out(found["test"][0], 4) == {0, 1, 2}


def test_no_column_holds_a_title(folder, tmp_path):
    for split in SPLITS:
        for row in rows(prepared("movie_kg", folder, tmp_path / "data"), split):
            assert not any(b"1999" in v for v in row.values() if isinstance(v, bytes))


def test_preparing_twice_gives_the_same_bytes(folder, tmp_path):
    once, again = (prepared("movie_kg", folder, tmp_path / name) for name in "ab")
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"triples": [("ml1m:8", *TRIPLES[0][1:]), *TRIPLES[1:]]}, "no film 'ml1m:8'"),
        ({"triples": [("ml1m:7", "starring", "Ann"), *TRIPLES[1:]]}, "'Ann' is no 'kind:name'"),
        ({"triples": TRIPLES[:-1]}, "has other triples than movie_kg/triples.tsv"),
        ({"triples": [*TRIPLES[:-1], ("ml1m:9", "genre", "person:Ann")],
          "packed": PACKED | {"triple": np.array([*NUMBERED[:-1], [2, 0, 5]])}},
         "tails of 'genre' are of kinds genre, person"),
        ({"films": [*FILMS, FILMS[0]]}, "line 4: film 7 comes twice"),
        ({"films": [FILMS[0] | {"plot": None}, *FILMS[1:]]}, "line 1: ml1m_id must be a number"),
        ({"packed": PACKED | {"split_transductive": np.full(7, 3)}}, "7 numbers from -1 to 2"),
        ({"packed": PACKED | {"film_poster_row": np.array([2, 0, 4])}}, "has not the posters"),
        ({"packed": PACKED | {"film_poster_row": np.array([0, 2, 3])}}, "belongs to another film"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(what, said, tmp_path, monkeypatch):
    folder = write(tmp_path / "raw", monkeypatch, **what)
    with pytest.raises(InputError, match=said):
        prepared("movie_kg", folder, tmp_path / "data")


def test_bad_fields_are_named():
    with pytest.raises(InputError, match="did you mean 'inductive'"):
        movie_kg.MovieKgConfig(split="inductiv")
    with pytest.raises(InputError, match="allowed: kind, all"):
        movie_kg.MovieKgConfig(candidates="some")


@pytest.fixture(scope="module")
def real(raw_data):
    path = raw.place(movie_kg.PACKED, Path(raw_data))
    if not path.exists():
        pytest.skip("needs movie_kg.npz beside the upstream files")
    films = movie_kg.read_films(Path(raw_data) / movie_kg.FILMS.path)
    triples = read_triples(Path(raw_data) / movie_kg.TRIPLES.path)
    return triples, films, safe.read_npz(path)


def test_the_real_graph_is_as_described(real):
    """36,799 triples, 5,950 entities, 9 relations; 29,441/3,679/3,679 and 29,339/3,673/3,727."""
    triples, films, packed = real
    entities, relations = movie_kg.names(triples, films)
    assert (len(triples), len(entities), len(films), len(relations)) == (36_799, 5_950, 3_202, 9)
    numbered = movie_kg.numbered(triples, entities, relations)
    for split, sizes in (("transductive", [0, 29_441, 3_679, 3_679]),
                         ("inductive", [60, 29_339, 3_673, 3_727])):  # fmt: skip
        places = movie_kg.read_split(packed, split, numbered, "packed")
        assert np.bincount(places + 1).tolist() == sizes
        train = numbered[places == 0]
        if split == "transductive":
            assert set(np.unique(train[:, [0, 2]])) == set(range(5_950))
            assert np.bincount(train[:, 0]).min() >= 2
        else:
            assert not set(train[:, 0]) & set(numbered[places > 0, 0])
            assert set(numbered[places > 0, 2]) <= set(train[:, 2])
    kinds = np.array([name.partition(":")[0] for name in entities])
    of = movie_kg.tail_kinds(numbered, kinds, relations)
    assert len(set(of.values())) == 7
    assert np.bincount(numbered[:, 1])[relations.index("starring")] == 6_953


def test_counting_tails_ranks_as_published_with_the_data(real):
    """The frequency of a tail in training alone: MRR .397 over the inductive test triples."""
    triples, films, packed = real
    entities, relations = movie_kg.names(triples, films)
    numbered = movie_kg.numbered(triples, entities, relations)
    kinds = np.array([name.partition(":")[0] for name in entities])
    never = {r: kinds != k for r, k in movie_kg.tail_kinds(numbered, kinds, relations).items()}
    known = movie_kg.Filter.of(numbered, len(entities), never)
    rows = {
        split: numbered[packed["split_inductive"] == place] for place, split in enumerate(SPLITS)
    }
    mrr = frequency(rows["train"], rows["test"], known, len(relations))[0]
    assert (mrr["metric"], mrr["value"]) == ("mrr", pytest.approx(0.397, abs=0.001))
    of = dict(zip(relations, mrr["by_group"], strict=True))
    expected = {"genre": 0.450, "starring": 0.013, "certificate": 0.680, "decade": 0.707}
    assert {name: of[name] for name in expected} == pytest.approx(expected, abs=0.001)
