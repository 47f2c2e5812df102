"""Damage done to files of models on purpose, and a process of its own that reads them.

    python -m tests.stack.damage lightgbm|forest FILE TRIALS SEED CLASSES DIM

It prints how many damaged files were read and how many refused; a file that ends the process ends
this one, and with it the test. Its number is in FILE.trial then.
"""

import io
import random
import re
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from ser.corpus.errors import UserError
from ser.stack.boosting import Boosting
from ser.stack.forest import Forest

NUMBERS = ["-1", "-2", "0", "1", "2", "3", "9", "-2147483648", "2147483647", "4294967296", "nan"]
NUMBERS += ["inf", "-0", "1e308", "1e999", "9" * 60, "", "x", "0.5", "-1e-300"]


def damaged_text(text: str, rng: random.Random) -> str:
    """Change a LightGBM text; mostly so that its sizes fit, as one would who means harm."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        lines = text.split("\n")
        at = rng.randrange(min(len(lines), text.count("\n", 0, text.find("end of trees")) + 3))
        words = lines[at].replace("=", "= ").split(" ")
        how = rng.randrange(10)
        if how == 0:
            del lines[at]
        elif how == 1:
            lines.insert(at, rng.choice(lines))
        elif how == 2:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif how == 3:
            text = text[: rng.randrange(len(text))]
            continue
        elif how == 4:
            place = rng.randrange(len(text))
            text = text[:place] + chr(rng.randrange(1, 128)) + text[place + 1 :]
            continue
        elif len(words) > 1:
            place = rng.randrange(1, len(words))
            if how < 8:
                words[place] = rng.choice(NUMBERS)
            else:
                words[place] = rng.choice(words[1:])
            lines[at] = " ".join(words).replace("= ", "=", 1)
        text = "\n".join(lines)
    if rng.random() < 0.8:
        blocks = re.findall(r"Tree=.*?\n\n\n", text, re.DOTALL)
        sizes = " ".join(str(len(block)) for block in blocks)
        text = re.sub(r"tree_sizes=.*", f"tree_sizes={sizes}", text)
    return text


def damaged_zip(data: bytes, rng: random.Random) -> bytes:
    """Change bytes of the zip, or of a member whose checksum is then made to fit."""
    if rng.random() < 0.2:
        at = rng.randrange(len(data))
        return data[:at] if rng.random() < 0.3 else data[:at] + rng.randbytes(2) + data[at + 2 :]
    out = io.BytesIO()
    with ZipFile(io.BytesIO(data)) as old, ZipFile(out, "w", ZIP_DEFLATED) as new:
        names = old.namelist()
        chosen = (
            "schema.json" if "schema.json" in names and rng.random() < 0.3 else rng.choice(names)
        )
        for name in names:
            member = bytearray(old.read(name))
            for _ in range(rng.choice((1, 2, 8)) if name == chosen else 0):
                at = rng.randrange(len(member))
                if name == "schema.json":
                    member[at : at + 1] = rng.choice(NUMBERS).encode()
                else:
                    member[at] = rng.randrange(256)
            new.writestr(name, bytes(member))
    return out.getvalue()


def main() -> None:
    """Read damaged files until one ends the process, or all were tried."""
    kind, file, trials, seed, classes, dim = sys.argv[1:]
    path, rng = Path(file), random.Random(int(seed))
    good = path.read_bytes()
    bad = path.with_name(f"bad{path.suffix}")
    rows = np.random.default_rng(0).normal(size=(50, int(dim))).astype(np.float32)
    rows[0], rows[1], rows[2] = np.nan, np.inf, -np.inf
    reader = Boosting(jobs=1) if kind == "lightgbm" else Forest(jobs=1)
    read = refused = 0
    for trial in range(int(trials)):
        path.with_name(f"{path.name}.trial").write_text(str(trial))
        if kind == "lightgbm":
            bad.write_bytes(damaged_text(good.decode(), rng).encode())
        else:
            bad.write_bytes(damaged_zip(good, rng))
        try:
            member = reader.read(bad.with_suffix(reader.suffix), int(classes), int(dim))
        except UserError:
            refused += 1
            continue
        finite = rows if kind == "lightgbm" else np.nan_to_num(rows)
        assert member.predict_proba(finite).shape == (50, int(classes))
        read += 1
    sys.stdout.write(f"{read} read, {refused} refused\n")


if __name__ == "__main__":
    main()
