"""What pyproject.toml cannot say: every package of seqkd, and the folder stages as a part of it.

A wheel holds the stages as seqkd/_stages, so that it puts no package called `stages` on anyone's path.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["seqkd", "seqkd.*"]), "seqkd._stages"],
    package_dir={"seqkd._stages": "stages"},
)
