from pathlib import Path

import pytest

from seqkd.utils import links
from seqkd.utils.errors import InputError


def test_link_that_leads_nowhere_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "a" / "whole").symlink_to(tmp_path / "file")
    links.refuse_dangling(tmp_path)
    (tmp_path / "a" / "broken").symlink_to("nowhere")
    for path in (tmp_path, tmp_path / "a" / "broken"):
        with pytest.raises(InputError, match=r"a/broken: a link to what is not there; correct "):
            links.refuse_dangling(path)


def test_link_that_leads_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match=r"/a: a link to what is not there"):
        links.refuse_dangling(tmp_path)
