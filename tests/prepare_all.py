"""Prepares every dataset, and tells the fingerprints: what two processes must agree on.

    python -m tests.prepare_all DATA_DIR RAW_DATA MANIFEST [full]

``full`` takes the two large sets whole. MANIFEST is a table of the user's own files. Prints JSON,
{name and fields: [sha256 of the record files, how many there are]}.
"""

import json
import logging
import shutil
import sys
import time
from pathlib import Path

from mmfuse.data.datasets import DATASETS, files_fingerprint, make_builder, prepare

FEW = {"n_train": 64, "n_valid": 16, "n_test": 16}
WHOLE = {
    "avmnist": {"n_train": 55000, "n_valid": 5000, "n_test": 10000, "spec_size": 112},
    "easy_vqa": {},
}
FORMS = {  # more than the default form of a dataset
    "mosi": [{}, {"features": "transcript", "split": "official", "task": "regression"}],
    "avmnist": [FEW, FEW | {"protocol": "speaker", "snr_db": 0.0}],
    "easy_vqa": [FEW],
    "helpdesk": [{"variant": "mixed", **FEW}],
    "onecommon": [{}, {"view": "picture"}, {"task": "response"}, {"task": "generation"}],
    "digit_stream": [FEW | {"target": target} for target in ("class", "image", "sound", "word")],
    "maec": [{}, {"target": "words", "history": 0}],
    "polymusic": [{}, {"corpus": "nottingham", "history": 2, "every": 16}],
    "waimai_10k": [{}, {"form": "upstream"}],
    "movielens": [{"task": "top"}],  # the smaller half
}


def forms(name: str, manifest: str, full: bool) -> list[dict]:
    """The ``data.builder`` entries that a dataset is prepared with."""
    if name == "manifest":
        return [{"path": manifest}]
    if full and name in WHOLE:
        return [WHOLE[name]]
    return FORMS.get(name, [{}])


def main(data_dir: str, raw_data: str, manifest: str, size: str = "") -> None:
    """Prepares them one after the other; each is removed once it is read."""
    found = {}
    for name in sorted(DATASETS, key=lambda name: name in WHOLE):  # the large ones last
        for fields in forms(name, manifest, size == "full"):
            start = time.perf_counter()
            builder = make_builder(name, fields, data_dir=data_dir, raw_data=raw_data)
            prepare(builder)
            files = list(Path(builder.data_path).glob("*array_record*"))
            sha256 = files_fingerprint(builder.data_path)
            found[f"{name} {fields}"] = [sha256, len(files)]
            print(f"{time.perf_counter() - start:6.1f} s {name} {sha256}", file=sys.stderr)
            shutil.rmtree(builder.data_path)
    print(json.dumps(found))


if __name__ == "__main__":
    logging.getLogger("absl").setLevel(logging.ERROR)
    main(*sys.argv[1:])
