"""What the lists and the gallery tell of every method comes from its docstring, and is there."""

import os
import re
import subprocess
import sys

import pytest

from experiments import gallery
from experiments import list as listing
from mmfuse.errors import InputError
from mmfuse.fusion import FUSIONS
from mmfuse.fusion.about import about

# Unbuffered: the list is longer than what a pipe holds once its reader is gone.
ENVIRONMENT = os.environ | {"PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize("name", FUSIONS)
def test_every_docstring_has_its_parts(name):
    told = about(FUSIONS[name])
    assert told.family in gallery.FAMILIES
    assert re.search(r"\(.*(\d{4}|article|control).*\)", told.title), "the paper, in brackets"
    assert "=" in told.equation
    assert len(told.equation) < 110
    for part in ("Shapes:", "Limits:", "Cost:"):
        assert part in told.text, part


def test_about_a_class_without_a_docstring():
    class Plain(FUSIONS["concat"]):
        pass

    Plain.__doc__ = None
    told = about(Plain)
    assert (told.family, told.title, told.equation) == ("tests", "", "")


def test_the_list_has_a_line_for_each(capsys):
    assert listing.main(["fusions"]) == 0
    out = capsys.readouterr().out
    assert "  gmu                      spatial" in out
    assert "  early_lstm               temporal time" in out
    assert "f = sum_m z_m * tanh(V_m h_m)" in out
    assert len(FUSIONS) >= 55


def test_one_entry_and_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gallery, "REPEATS", 1)
    monkeypatch.setattr(gallery, "NUMBERS", (2,))
    assert gallery.main(["--only=^sum$"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("### sum\n")
    assert "arXiv" in out
    monkeypatch.setattr(gallery, "FUSIONS", {"sum": FUSIONS["sum"]})
    assert gallery.main([f"--into={tmp_path / 'page.md'}"]) == 0
    page = (tmp_path / "page.md").read_text()
    # Three maps of 32 x 32 and their biases.
    assert re.search(r"\| \[sum\]\(#sum\) \|  \| 3,168 \| .* \| \d+ \| ok \|", page)
    assert "1 methods" in page
    with pytest.raises(InputError, match="say where the page goes"):
        gallery.main([])


def test_a_reader_that_has_seen_enough_ends_the_list_without_a_complaint():
    command = [sys.executable, "-W", "error", "-m", "experiments.list", "fusions"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=ENVIRONMENT) as listed:
        listed.stdout.close()  # before it has begun: what it writes later cannot hide in the pipe
        assert listed.stderr.read() == b""
    assert listed.returncode == 141
