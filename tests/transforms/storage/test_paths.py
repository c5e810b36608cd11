"""Names from files and objects lead nowhere but below their folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import InputError
from transforms.storage.paths import inside, is_below

ESCAPES = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "",
    ".",
    "..",
    "a//b",
    "./a",
    "a/",
    "gs://other/x",
    "a\0b",
]


@pytest.mark.parametrize("folder", ["here", "gs://bucket/w"])
@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_leads_out_is_refused(folder: str, name: str) -> None:
    with pytest.raises(InputError, match="which is not below it; find out who changed"):
        inside(folder, name)


@pytest.mark.parametrize("name", ["a", "a/b.parquet", "a..b", "...", "*"])
def test_any_other_name_is_a_path_in_the_folder(tmp_path: Path, name: str) -> None:
    assert inside(str(tmp_path), name) == f"{tmp_path}/{name}"
    assert inside("gs://bucket/w", name) == f"gs://bucket/w/{name}"


@given(st.text(alphabet="ab./\\~", max_size=12))
def test_no_name_reaches_another_folder(name: str) -> None:
    try:
        path = inside("/w", name)
    except InputError:
        return
    assert Path(path).resolve().is_relative_to("/w")


def test_links_within_a_folder_do_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="'link/x', which is not below it"):
        inside(str(tmp_path / "w"), "link/x")


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "w").symlink_to(tmp_path / "disk")
    assert inside(str(tmp_path / "w"), "x") == f"{tmp_path}/w/x"


def test_below_is_below_after_links_and_of_one_kind(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "w").symlink_to(tmp_path / "disk")
    assert is_below(f"{tmp_path}/disk/x", f"{tmp_path}/w/")
    assert not is_below(f"{tmp_path}/disk2/x", f"{tmp_path}/w")
    assert is_below("gs://b/w/x", "gs://b/w")
    assert not is_below("gs://b/w2/x", "gs://b/w")
    assert not is_below("/w/x", "gs://b/w")
