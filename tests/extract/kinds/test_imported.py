import pytest

from ser.extract.extractor import parse_options
from ser.extract.kinds.imported import Imported


def test_nothing_extracts_an_imported_feature():
    imported = Imported(parse_options({"kind": "imported"}))
    with pytest.raises(ValueError, match="are added by `ser cache import`"):
        imported.extract([])
