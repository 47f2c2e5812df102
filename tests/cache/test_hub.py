"""Repositories of the hub: what is pushed is pulled, and what cannot be is one sentence."""

import hashlib
import json
import socket

import pytest

from ser.cache.hub import HubRepo, is_hub
from ser.corpus.errors import UserError
from tests.hub_server import READ_TOKEN

CONTENT = b"bundle" * 1000


@pytest.fixture
def repo():
    return HubRepo.parse("hf:anna/calls", "bundle")


@pytest.fixture
def pushed(hub, repo, tmp_path):
    """Return the commit of a repository with one file."""
    (tmp_path / "x.ser").write_bytes(CONTENT)
    return repo.push("calls", "# Card\n", {"calls.ser": tmp_path / "x.ser"})


def problem(call, *arguments, exit_code=2):
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert error.value.exit_code == exit_code
    assert "\n" not in str(error.value)
    assert "hf_" not in str(error.value)
    return str(error.value)


def edit(hub, **changes):
    record = json.loads(hub.files("models", "anna/calls")["ser.json"])
    record.pop("crc32c", None)
    return hub.commit("models", "anna/calls", {"ser.json": json.dumps(record | changes).encode()})


def test_names_of_repositories():
    assert HubRepo.parse("hf:a/b@feature/x", "feature").revision == "feature/x"
    assert str(HubRepo.parse("hf:a-1/b.c_2@v1.0", "bundle")) == "hf:a-1/b.c_2@v1.0"
    assert is_hub("hf:x")
    assert not is_hub("runs/hf")
    for place in ("hf:a", "hf:/a/b", "hf:a/b/c", "hf:a/../b", "hf:a/b@", "hf:a/b@../c", "hf:é/b"):
        assert "it is not a repository of the hub; give hf:owner/name" in problem(
            HubRepo.parse, place, "bundle"
        )


def test_files_come_back_as_they_were_pushed_and_are_downloaded_once(hub, repo, pushed):
    assert set(hub.files("models", "anna/calls")) == {
        *(".gitattributes", "README.md", "ser.json", "calls.ser"),
    }
    assert hub.files("models", "anna/calls")["README.md"] == b"# Card\n"
    record, at = repo.read()
    assert (record.name, record.content, at.revision) == ("calls", "bundle", pushed)
    assert record.files["calls.ser"].sha256 == hashlib.sha256(CONTENT).hexdigest()
    for _ in range(2):
        assert at.fetch("calls.ser", record.files["calls.ser"]).read_bytes() == CONTENT
    assert hub.requests.count(("GET", "calls.ser")) == 1


def test_a_revision_keeps_its_files(hub, repo, pushed, tmp_path):
    (tmp_path / "x.ser").write_bytes(b"new")
    newer = repo.push("calls", "# Card\n", {"calls.ser": tmp_path / "x.ser"})
    assert repo.read()[1].revision == newer != pushed
    record, at = HubRepo.parse(f"hf:anna/calls@{pushed}", "bundle").read()
    assert at.fetch("calls.ser", record.files["calls.ser"]).read_bytes() == CONTENT


def test_what_was_downloaded_is_used_without_a_network(hub, repo, pushed, monkeypatch):
    record, at = repo.read()
    at.fetch("calls.ser", record.files["calls.ser"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert repo.read() == (record, at)
    assert at.fetch("calls.ser", record.files["calls.ser"]).read_bytes() == CONTENT
    assert not hub.requests
    assert problem(HubRepo.parse("hf:anna/other", "bundle").read) == (
        "hf:anna/other: it was not downloaded before, and HF_HUB_OFFLINE is set; unset it."
    )
    assert "nothing can be pushed; unset it" in problem(repo.require_writable)


def test_a_private_repository_needs_the_token(hub, repo, tmp_path, monkeypatch):
    (tmp_path / "x.ser").write_bytes(CONTENT)
    repo.push("calls", "", {"calls.ser": tmp_path / "x.ser"}, private=True)
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    assert repo.read()[0].name == "calls"
    monkeypatch.delenv("HF_TOKEN")
    assert problem(HubRepo.parse("hf:anna/other", "bundle").read) == (
        "hf:anna/other: there is no such repository of models, or it is private; check the name, "
        "or log in with `hf auth login`, or set HF_TOKEN."
    )


def test_who_may_not_push_is_told_how(hub, repo, tmp_path, monkeypatch):
    (tmp_path / "x.ser").write_bytes(CONTENT)
    repo.require_writable()
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    refusal = (
        "hf:anna/calls: the hub refuses the token for this; log in with `hf auth login`, or set "
        "HF_TOKEN to one that may do it."
    )
    assert problem(repo.push, "calls", "", {"calls.ser": tmp_path / "x.ser"}) == refusal
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert problem(repo.read) == refusal
    monkeypatch.delenv("HF_TOKEN")
    assert "the hub takes files with a token only; log in" in problem(repo.require_writable)
    assert "give hf:anna/calls alone" in problem(
        HubRepo.parse("hf:anna/calls@main", "bundle").require_writable
    )


def test_a_repository_of_other_files_is_not_written_to(hub, repo, tmp_path):
    hub.create("models", "anna/calls")
    hub.commit("models", "anna/calls", {"README.md": b"mine"})
    (tmp_path / "x.ser").write_bytes(CONTENT)
    assert "it has files of another kind" in problem(
        repo.push, "calls", "", {"calls.ser": tmp_path / "x.ser"}
    )
    assert hub.files("models", "anna/calls")["README.md"] == b"mine"


def test_an_absent_revision_an_absent_record_and_a_gated_repository(hub, repo, pushed):
    assert problem(HubRepo.parse("hf:anna/calls@v9", "bundle").read) == (
        "hf:anna/calls@v9: there is no such revision; give a branch, a tag or a commit of it."
    )
    hub.create("models", "anna/empty")
    assert problem(HubRepo.parse("hf:anna/empty", "bundle").read) == (
        "hf:anna/empty: it has no ser.json; give a repository that `ser pack --push` has written."
    )
    hub.repos["models", "anna/empty"].gated = True
    assert "its owner grants access on its page; ask for it, and log in" in problem(
        HubRepo.parse("hf:anna/empty", "bundle").read
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"content": "feature"}, "it holds a feature; give a repository that `ser pack --push`"),
        (
            {"format": "ser-hub/9"},
            "'format' is not valid: it must be 'ser-hub/1'; ask ",
        ),
        ({"files": {"../x": {"sha256": "0" * 64, "size": 1}}}, "ask its owner to push it again"),
        ({"files": {"a/.b": {"sha256": "0" * 64, "size": 1}}}, "ask its owner to push it again"),
        ({"files": {"a": {"sha256": "0" * 63, "size": 1}}}, "ask its owner to push it again"),
        ({"files": {"a": {"sha256": "0" * 64, "size": -1}}}, "ask its owner to push it again"),
        ({"name": "../x"}, "'name' is not valid"),
    ],
)
def test_a_record_that_is_not_valid_is_refused(hub, repo, pushed, changes, text):
    edit(hub, **changes)
    assert text in problem(repo.read)


def test_a_file_with_another_sha256_is_refused(hub, repo, pushed):
    hub.commit("models", "anna/calls", {"calls.ser": b"x" * len(CONTENT)})
    record, at = repo.read()
    assert "the sha256 of calls.ser is not that in ser.json, so it was damaged or" in problem(
        at.fetch, "calls.ser", record.files["calls.ser"]
    )


def test_a_hub_that_does_not_answer(hub, repo, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 0.1)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        place = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", place)
    template = place + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert problem(repo.read, exit_code=1) == (
        "hf:anna/calls: it was not downloaded before, and the hub cannot be reached; check the "
        "network and HF_ENDPOINT."
    )
