"""Packages of the distribution; everything else stands in pyproject.toml.

The training application lives in `train/` and is installed as `keras_resnet_train`, so that no
generic name lands in site-packages.
"""

from setuptools import find_packages, setup

APPLICATION = "keras_resnet_train"

setup(
    packages=[
        *find_packages(include=["keras_resnet", "keras_resnet.*"]),
        APPLICATION,
        *(f"{APPLICATION}.{name}" for name in find_packages("train")),
    ],
    package_dir={APPLICATION: "train"},
)
