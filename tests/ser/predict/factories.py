"""Bundles that somebody has changed, and the errors that refuse them."""

import hashlib
import json
import shutil
from zipfile import ZIP_STORED, ZipFile

import pytest

import ser
from ser.corpus.errors import UserError


def changed(source, target, *, record=None, **members):
    """Write a bundle again: `members` replace bytes (None: leave out), hashes are made to fit."""
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        data = {name: old.read(name) for name in old.namelist()} | members
        data = {name: contents for name, contents in data.items() if contents is not None}
        contents = json.loads(data.pop("bundle.json"))
        contents["members"] = {
            name: {"sha256": hashlib.sha256(of).hexdigest(), "size": len(of)}
            for name, of in data.items()
        }
        for name, of in data.items():
            new.writestr(name, of)
        new.writestr("bundle.json", json.dumps(contents | (record or {})))
    return target


def added(light, path, info, data=b"x", compress=ZIP_STORED):
    shutil.copy(light, path)
    with ZipFile(path, "a") as archive:
        archive.writestr(info, data, compress)
    return path


def refusal(path):
    with pytest.raises(UserError) as error:
        ser.load(path, "cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


def trained(run, **record):
    """Make what a trained run has, as far as it is looked at."""
    (run / "heads" / "one").mkdir(parents=True)
    (run / "pipeline.yaml").write_text("run: .\n")
    (run / "heads" / "one" / "head.json").write_text(json.dumps(record))
