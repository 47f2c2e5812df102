"""Damage to a file, of every kind that a disk or a person does."""

import shutil

DAMAGES = ("flip", "cut", "empty", "delete", "folder")


def damage_file(path, damage, rng):
    """Flip a bit of a file, cut it, empty it, delete it, or put a folder in its place."""
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif damage == "cut":
        content = content[: rng.randrange(len(content))]
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "delete":
        path.write_bytes(b"" if damage == "empty" else content)


def repair(path, content):
    """Put the content back."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.write_bytes(content)
