"""Every artefact and every column of it is described."""

import pytest

from transforms.schemas import ARTEFACTS, Artefact


@pytest.mark.parametrize("path", ARTEFACTS)
def test_every_column_is_described(path: str) -> None:
    artefact = ARTEFACTS[path]
    assert isinstance(artefact, Artefact)
    assert list(artefact.columns) == artefact.schema.names
    assert all([artefact.description, *artefact.columns.values()])
