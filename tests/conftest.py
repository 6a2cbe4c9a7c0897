"""Strict surroundings for every test: 8 simulated devices, and no silent broadcasting."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
REAL_DATA = os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data", "raw")


@pytest.fixture(scope="session")
def raw_data() -> str:
    """The folder of upstream files, or a skip that says so."""
    if not os.path.isdir(REAL_DATA):
        pytest.skip("needs the upstream files in ../shared/data/raw")
    return REAL_DATA
