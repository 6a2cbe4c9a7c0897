"""Packaging of mmfuse; see README.md for how to install for CPU, CUDA and TPU."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "mmfuse/__init__.py").read_text()).group(1)

setup(
    name="mmfuse",
    version=VERSION,
    description="Fusion-method ablations in JAX: the same data, encoders and budget for every row",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["mmfuse*", "experiments*", "configs*"]),
    package_data={
        "configs": ["published/*.json"],
        "mmfuse.report": ["page.css", "page.js"],
    },
    install_requires=[
        "jax>=0.10.2,<0.12",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "tensorflow-datasets>=4.9.10",
        "array_record>=0.8.3",
        "importlib_resources>=6",
        "grain>=0.2.18",
        "ml-collections>=1.1.0",
        "flatbuffers>=25.1",
        "absl-py>=2",
        "numpy>=2.0",
        "scipy>=1.14",
        "tokenizers>=0.21",
        "jieba>=0.42.1",
        "stopwordsiso>=0.6.1",
        "soundfile>=0.13",
        "rich>=13.7",
        "h5py>=3.12",
        "pillow>=10",
        "tensorboardX>=2.6.4",
    ],
    extras_require={
        "cuda12": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        "tune": ["optuna>=5"],
        "wandb": ["wandb>=0.20"],
        "mlflow": ["mlflow>=3"],
        "dev": [
            "optuna>=5",
            "pytest>=8",
            "pytest-cov>=5",
            "ruff>=0.9",
            "setuptools>=70.1",
            "statsmodels>=0.14.4",
            "scikit-posthocs>=0.11",
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
