"""Every method of the family spatial: the contract kit, and that it learns."""

import pytest

from tests.fusion import family


@pytest.mark.parametrize("name", family.of("spatial"))
def test_keeps_the_contract(name):
    family.keeps_the_contract(name)


@pytest.mark.parametrize("modalities", [1, 2, 6])
@pytest.mark.parametrize("name", family.of("spatial"))
def test_takes_other_numbers_of_modalities(name, modalities):
    family.takes(name, modalities)


@pytest.mark.parametrize("name", family.of("spatial"))
def test_learns(name, tmp_path_factory):
    family.learns(name, str(tmp_path_factory.getbasetemp() / "redundant"))
