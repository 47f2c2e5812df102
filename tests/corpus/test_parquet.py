import random
from pathlib import Path

import polars as pl
import pytest

from ser.corpus.errors import DamagedError
from ser.corpus.manifest import Manifest


def manifest(rows: int = 20) -> Manifest:
    names = [f"u{i}" for i in range(rows)]
    words = ["the entry is ser.crc32c: 0123abcd"] * rows
    columns = {"utterance": names, "path": names, "emotion": ["sad"] * rows, "transcript": words}
    return Manifest(pl.DataFrame(columns), audio="clips")


def test_a_flipped_bit_of_a_manifest_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    manifest().write(path)
    whole = path.read_bytes()
    assert Manifest.read(path).frame.equals(manifest().frame)
    assert Manifest.read(path).audio == Path("clips").resolve()
    chance = random.Random(0)
    key = whole.rindex(b"ser.crc32c")
    places = [at for at in range(len(whole)) if not key <= at < key + len("ser.crc32c")]
    for at in chance.sample(places, 200):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedError) as caught:
            Manifest.read(path)
        assert str(caught.value) == (
            f"{path}: this table is damaged; restore it, or import it again."
        )


def test_a_manifest_without_a_checksum_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    manifest().frame.drop("transcript").write_parquet(path)
    assert len(Manifest.read(path)) == 20
