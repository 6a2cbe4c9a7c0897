"""Reading files that nobody vouches for: every reader checks, then reads, within limits.

What is wrong with a file is a `DataError`, an `InputError` of one line: what, where, what is
allowed. No reader runs anything that a file brings along, trusts a length that a file states, or
takes more than about 1 GiB with the limits it has by default.
"""

from mmfuse.data.safe.archives import Archive, extract_tar, open_zip
from mmfuse.data.safe.arrays import check_rows, pick, read_npy, read_npz
from mmfuse.data.safe.hdf5 import read_h5
from mmfuse.data.safe.limits import DataError
from mmfuse.data.safe.matlab import read_mat
from mmfuse.data.safe.pickles import read_pickle
from mmfuse.data.safe.pictures import read_picture
from mmfuse.data.safe.sounds import read_sound
from mmfuse.data.safe.texts import read_csv, read_json, read_jsonl, read_rows, read_text

__all__ = [
    "Archive",
    "DataError",
    "check_rows",
    "extract_tar",
    "open_zip",
    "pick",
    "read_csv",
    "read_h5",
    "read_json",
    "read_jsonl",
    "read_mat",
    "read_npy",
    "read_npz",
    "read_pickle",
    "read_picture",
    "read_rows",
    "read_sound",
    "read_text",
]
