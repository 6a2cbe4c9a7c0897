from pathlib import Path

import numpy as np
import pytest

from mmfuse.data import movielens, raw
from mmfuse.data import movielens_sources as sources
from mmfuse.data.datasets import files_fingerprint
from mmfuse.data.loader import Dataset
from mmfuse.data.movielens import MovielensConfig, divide
from mmfuse.errors import InputError
from tests.film_files import ITEMS, USERS, lines, tiny, trust, write_files
from tests.graph_files import SPLITS, left_out, prepared, rows


def write(root, monkeypatch, files=None, **changed):
    monkeypatch.delenv(raw.ENVIRONMENT, raising=False)
    columns = tiny(np.random.default_rng(0))
    write_files(root, lines(columns) | (files or {}), columns | changed)
    trust(root, monkeypatch)
    return columns


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write(tmp_path / "raw", monkeypatch)
    return tmp_path / "raw"


@pytest.fixture
def columns():
    return tiny(np.random.default_rng(0))


def by_row(builder):
    return {split: {int(row["id"]): row for row in rows(builder, split)} for split in SPLITS}


def test_a_rating_on_an_official_fold(folder, columns, tmp_path):
    found = by_row(prepared("movielens", folder, tmp_path / "data", fold="u2"))
    assert set(found["test"]) == set(np.flatnonzero(columns["test_u2"]))
    assert [len(part) for part in found.values()] == [72, 8, 20]
    for number, row in {**found["train"], **found["test"]}.items():
        user, item = columns["rating_user"][number], columns["rating_item"][number]
        assert row["label"] == columns["rating"][number]
        assert row["user"].tolist() == [user] and int(row["group"]) == user
        np.testing.assert_allclose(
            row["profile"], [2 + user / 10, user % 2, user % 2 == 0, user % 2 == 1], rtol=1e-6
        )
        np.testing.assert_array_equal(row["genre"], columns["item_genre"][item])
        assert row["plot"].decode() == columns["item_plot"][item]
        assert row["poster"].shape == ((0, 32, 3) if item == 0 else sources.POSTER)
        if item:
            np.testing.assert_array_equal(row["poster"], columns["poster"][item - 1])


def test_posters_are_stored_smaller(folder, columns, tmp_path):
    found = by_row(prepared("movielens", folder, tmp_path / "data", poster_scale=8))
    for number, row in found["valid"].items():
        item = columns["rating_item"][number]
        if item == 0:
            assert row["poster"].shape == (0, 4, 3)
            continue
        for y, x, c in ((0, 0, 0), (5, 3, 2), (2, 1, 1)):
            block = columns["poster"][item - 1, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8, c]
            assert row["poster"][y, x, c] == np.floor(block.astype(float).mean() + 0.5)


def test_the_card_has_the_references_of_its_task(folder, tmp_path):
    for task, metrics, count in (("rating", {"rmse", "mae"}, 5), ("cold", {"rmse", "mae"}, 2),
                                 ("top", {"recall20", "ndcg20"}, 2)):  # fmt: skip
        fold = "items1" if task == "cold" else "u1"
        builder = prepared("movielens", folder, tmp_path / "data", task=task, fold=fold)
        found = builder.info.metadata["references"]
        assert {entry["metric"] for entry in found} == metrics
        assert len({entry["name"] for entry in found}) == count
        assert all(np.isfinite(entry["value"]) for entry in found)


def test_a_film_that_training_has_not_is_absent(tmp_path, monkeypatch):
    columns = tiny(np.random.default_rng(0))
    films = columns["rating_item"]
    folder = tmp_path / "raw"
    write(folder, monkeypatch, test_u1=(films == 4) | (films == 5))
    found = by_row(prepared("movielens", folder, tmp_path / "data"))
    assert found["test"] and all(row["item"].size == 0 for row in found["test"].values())
    assert all(row["item"] == films[n] for n, row in found["train"].items())


def test_cold_films_are_in_one_split_and_have_no_id(folder, columns, tmp_path):
    tested = []
    for fold in movielens.COLD:
        found = by_row(prepared("movielens", folder, tmp_path / "data", task="cold", fold=fold))
        films = {s: {int(columns["rating_item"][n]) for n in found[s]} for s in SPLITS}
        assert not films["train"] & (films["valid"] | films["test"])
        assert not films["valid"] & films["test"]
        assert all(row["item"].size == 0 for s in SPLITS[1:] for row in found[s].values())
        assert all(row["item"].size == 1 for row in found["train"].values())
        tested += films["test"]
        assert sum(map(len, found.values())) == 100
    assert sorted(tested) == list(range(ITEMS))


def test_the_query_of_a_list_does_not_know_its_answer(folder, columns, tmp_path):
    builder = prepared("movielens", folder, tmp_path / "data", task="top")
    user, item, rating, time = (
        columns[n] for n in ("rating_user", "rating_item", "rating", "timestamp")
    )
    found = by_row(builder)
    split = np.empty(100, object)
    config = MovielensConfig(task="top")
    ratings = sources.read({s.path: folder / s.path for s in movielens.Movielens.sources(config)})
    split[:] = np.array(SPLITS)[divide(ratings, config)]
    card = builder.info.metadata
    assert (card["task"], card["entities"], card["groups"]) == ("recommendation", ITEMS, USERS)
    for part in SPLITS:
        chosen = np.flatnonzero((split == part) & (rating >= 4))
        assert set(found[part]) == set(chosen)
        for n in chosen:
            row = found[part][n]
            before = [m for m in np.argsort(time) if user[m] == user[n] and item[m] != item[n]
                      and split[m] == "train" and rating[m] >= 4]  # fmt: skip
            assert row["history"].tolist() == item[before].tolist()
            assert row["label"] == item[n] and row["label"] not in row["history"]
            assert row["label_group"] == user[n]
            last = item[before[-1]]
            assert row["plot"].decode() == columns["item_plot"][last]
            np.testing.assert_allclose(
                row["genre"], columns["item_genre"][item[before]].mean(0), rtol=1e-6
            )
            base = {"train": (), "valid": ("train",), "test": ("train", "valid")}[part]
            had = {int(item[m]) for m in range(100) if user[m] == user[n] and split[m] in base}
            assert left_out(row, ITEMS) == had
            assert item[n] not in had


def test_validation_is_drawn_by_its_seed(folder, tmp_path):
    def valid(**fields):
        return set(by_row(prepared("movielens", folder, tmp_path / "data", **fields))["valid"])

    assert valid() == valid(split_seed=0) != valid(split_seed=1)


def test_preparing_twice_gives_the_same_bytes(folder, tmp_path):
    once, again = (prepared("movielens", folder, tmp_path / name) for name in "ab")
    assert files_fingerprint(once.data_path) == files_fingerprint(again.data_path)


def test_it_is_a_recommendation_to_the_loader(folder, tmp_path):
    builder = prepared("movielens", folder, tmp_path / "data", task="top")
    preprocess = {
        "user": {"name": "identity", "size": USERS},
        "history": {"name": "identity", "size": ITEMS, "length": movielens.HISTORY},
        "profile": {"name": "features"},
        "genre": {"name": "features"},
        "poster": {"name": "picture", "size": 8},
    }
    dataset = Dataset(builder, preprocess, resident_bytes=2**24)
    batch = next(dataset.open_test(4, run="test", purpose="test"))
    assert batch["inputs"]["history"].shape == (4, movielens.HISTORY)
    assert batch["label"]["filter"].shape == (4, 3)
    assert len(dataset.test_groups()) == dataset.sizes["test"]


COUNT = lines(tiny(np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("files", "changed", "said"),
    [
        ({"RATINGS": ["1\t2\t3"]}, {}, "u.data, line 1: 3 cells; expected 4"),
        ({"RATINGS": ["1\t2\t6\t9"]}, {}, r"line 1: rating 6 is outside 1..5"),
        ({"RATINGS": ["7\t2\t5\t9"]}, {}, r"line 1: user 7 is outside 1..6"),
        ({"RATINGS": ["1\t2\tx\t9"]}, {}, "'1 2 x 9' is not four numbers"),
        ({"RATINGS": ["1\t2\t3\t9", "1\t2\t4\t9"]}, {}, "line 2: user 1 rates item 2 again"),
        ({"RATINGS": COUNT["RATINGS"][::-1]}, {}, "rating_user is not what the upstream files"),
        ({"ITEMS": COUNT["ITEMS"][1:]}, {}, "u.item, line 1: number '2'; expected 1"),
        ({"ITEMS": ["1|a|b|c|d|0|0|2"]}, {}, r"genres 0\|0\|2 are not all 0 or 1"),
        ({"USERS": ["1|x|M|artist|1"]}, {}, "age 'x', gender 'M'"),
        ({}, {"test_u3": np.ones(99, bool)}, "yes or no of each of 100 ratings"),
        ({}, {"item_poster_row": np.full(ITEMS, 19)}, r"item_poster_row is outside -1..18"),
        ({}, {"item_plot": np.array(["a"])}, "must be those of 20 films"),
        ({}, {"poster": np.zeros((19, 2, 2, 3), np.uint8)}, r"posters are uint8 \[2, 2, 3\]"),
    ],
)
def test_what_does_not_fit_is_named(files, changed, said, tmp_path, monkeypatch):
    write(tmp_path / "raw", monkeypatch, files, **changed)
    with pytest.raises(InputError, match=said):
        prepared("movielens", tmp_path / "raw", tmp_path / "data")


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"task": "ratings"}, "did you mean 'rating'"), ({"fold": "u6"}, "fold of task rating 'u6'"),
     ({"task": "cold"}, "fold of task cold 'u1'; allowed: items1"), ({"split_seed": -1}, "split"),
     ({"poster_scale": 3}, "poster_scale 3; allowed: 1, 2, 4, 8")],
)  # fmt: skip
def test_bad_fields_are_named(fields, said):
    with pytest.raises(InputError, match=said):
        MovielensConfig(**fields)


@pytest.fixture(scope="module")
def real(raw_data):
    if not raw.place(sources.PACKED, Path(raw_data)).exists():
        pytest.skip("needs movielens_100k_mm.npz beside the upstream files")
    files = movielens.Movielens.sources(MovielensConfig())
    return sources.read({f.path: raw.place(f, Path(raw_data)) for f in files})


def test_the_real_ratings_are_as_described(real, raw_data):
    """100,000 ratings of 943 users and 1,682 films; 1,671 plots, 1,445 posters; the folds."""
    assert (len(real.user), len(real.profile), len(real.genre)) == (100_000, 943, 1_682)
    assert (sum(map(bool, real.plot)), int((real.poster_row >= 0).sum())) == (1_671, 1_445)
    assert np.bincount(real.rating).tolist() == [0, 6_110, 11_370, 27_145, 34_174, 21_201]
    folds = np.stack([real.tests[f"u{fold}"] for fold in range(1, 6)])
    assert (folds.sum(0) == 1).all()
    assert (real.tests["ua"].sum(), real.tests["ub"].sum()) == (9_430, 9_430)
    unknown = 266
    assert real.genre[unknown].tolist() == [1] + [0] * 18
    assert real.poster_row[unknown] == -1
    assert "coma" in real.plot[unknown]  # of another film, as the card says
    upstream = np.loadtxt(Path(raw_data) / sources.FOLDER / "u1.test", dtype=int)
    chosen = real.tests["u1"]
    ours = {*zip((real.user + 1)[chosen].tolist(), (real.item + 1)[chosen].tolist(), strict=True)}
    assert ours == {*zip(*upstream[:, :2].T.tolist(), strict=True)}
    split = divide(real, MovielensConfig())
    assert np.bincount(split).tolist() == [72_000, 8_000, 20_000]
    cold = divide(real, MovielensConfig(task="cold", fold="items1"))
    films = [set(real.item[cold == place].tolist()) for place in range(3)]
    assert not films[0] & films[1] | films[0] & films[2] | films[1] & films[2]
