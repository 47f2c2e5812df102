"""The page cannot be used to read, delete or fetch anything of the server's machine."""

import base64
import json
import uuid

import httpx
import pytest

from ser.serve.limits import Limits
from tests.ser.serve.conftest import files, serving

NOT_FOUND = "not found; /docs lists the API."


@pytest.fixture(scope="module")
def server(small, tmp_path_factory):
    with serving(small.p, tmp_path_factory.mktemp("narrow"), Limits(max_mb=1), page=True) as server:
        server.service.loading.result(60)
        with httpx.Client(base_url=server.url, timeout=60) as client:
            server.client = client
            config = client.get("/config").json()
            server.event = next(d["id"] for d in config["dependencies"] if d["backend_fn"])
            yield server


@pytest.fixture
def victim(tmp_path, clip):
    """Return a folder with a clip that the server may read and must not."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "private.wav").write_bytes(clip.read_bytes())
    (folder / "thesis.txt").write_text("years")
    return folder


def upload(server, clip, name="u.wav"):
    answer = server.client.post("/gradio_api/upload", files={"files": (name, clip.read_bytes())})
    (path,) = answer.json()
    return path


def file_data(path, **more):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, **more}


def ask(server, clip, session=None, **more):
    """Ask the page about a clip as Gradio's scripts do; return the answer and the last message."""
    session = session or uuid.uuid4().hex
    body = {"data": [clip, False], "fn_index": server.event, "trigger_id": 4, "event_data": None}
    answer = server.client.post(
        "/gradio_api/queue/join", json=body | {"session_hash": session} | more
    )
    if answer.status_code != 200:
        return answer, None
    query = {"session_hash": session}
    with server.client.stream("GET", "/gradio_api/queue/data", params=query) as stream:
        for line in stream.iter_lines():
            if "process_completed" in line:
                return answer, json.loads(line.removeprefix("data: "))
    raise AssertionError("no answer came")


def test_an_uploaded_clip_is_answered_once_and_deleted(server, clip, small):
    path = upload(server, clip, "../../a/my clip.wav")
    played = server.client.get(f"/gradio_api/file={path}")
    assert (played.status_code, played.content) == (200, clip.read_bytes())
    assert played.headers["content-type"].startswith("audio/")
    assert played.headers["x-content-type-options"] == "nosniff"
    _, last = ask(server, file_data(path, url="http://127.0.0.1:1/x", orig_name="my clip.wav"))
    assert last["success"]
    html = last["output"]["data"][1]
    assert "my clip.wav" in html
    assert base64.b64encode(clip.read_bytes()).decode() in html
    assert files(server.folder) == []
    again, _ = ask(server, file_data(path))
    assert (again.status_code, again.json()) == (
        422,
        {"error": "this clip was not uploaded, or too long ago; upload it again."},
    )
    assert server.client.get(f"/gradio_api/file={path}").status_code == 404


def paths_of(victim, server):
    page = server.folder / "page"
    (victim / "link.wav").symlink_to(victim / "private.wav")
    yield from (victim / "private.wav", victim / "no-such-file", victim, victim / "link.wav")
    yield from (f"{page}/../../{victim.name}/private.wav", page, server.folder, "/", "", ".", "..")
    yield from (f"file://{victim}/private.wav", "http://127.0.0.1:1/a.wav", "\0", "a" * 4096)
    yield from (f"{victim}/private.wav\0.wav", "/dev/stdin", "/proc/self/environ")


def test_no_path_of_the_servers_disk_is_read_or_deleted(server, clip, victim):
    before = files(victim)
    mine = upload(server, clip)
    for path in [*paths_of(victim, server), mine + "x", mine.upper(), mine.rsplit("/", 1)[0]]:
        answer, _ = ask(server, file_data(path))
        assert (answer.status_code, list(answer.json())) == (422, ["error"]), path
    assert files(victim) == sorted([*before, "link.wav"])
    _, last = ask(server, file_data(mine))  # which none of them has deleted
    assert last["success"]


@pytest.mark.parametrize(
    "shape",
    [
        lambda d: d["path"],
        lambda d: [d],
        lambda d: {"value": d},
        lambda d: {"url": f"file://{d['path']}", "meta": d["meta"]},
        lambda d: {"path": [d["path"]], "meta": d["meta"]},
        lambda d: {"path": d, "meta": d["meta"]},
        lambda d: 5,
    ],
)
def test_a_file_in_any_other_shape_is_refused(server, victim, shape):
    answer, _ = ask(server, shape(file_data(victim / "private.wav")))
    assert answer.status_code == 422
    assert answer.json() == {"error": "the request is not one of the page; reload the page."}


def test_only_what_was_checked_reaches_gradio(server, clip, victim):
    """Other fields of the body, and keys given twice, are left out."""
    secret = file_data(victim / "private.wav")
    path = upload(server, clip)
    session = uuid.uuid4().hex
    body = json.dumps({"data": [file_data(path), False], "fn_index": server.event})[:-1]
    body = f'{{"data": [{json.dumps(secret)}, false], {body[1:]}, "session_hash": "{session}"}}'
    joined = server.client.post("/gradio_api/queue/join?x=1", content=body)
    assert joined.status_code == 200
    for more in (
        {"data": [secret]},
        {"data": [None, False, secret]},
        {"data": [None, secret]},
        {"fn_index": server.event + 1},
        {"fn_index": "predict"},
        {"fn_index": None},
        {"session_hash": "../../x"},
        {"session_hash": None},
        {"trigger_id": [secret]},
    ):
        answer, _ = ask(server, None, **more)
        assert (answer.status_code, list(answer.json())) == (422, ["error"]), more


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
def test_the_other_routes_of_gradio_are_not_there(server, victim, method):
    secret = str(victim / "private.wav")
    for path in (
        *(f"/gradio_api/file={secret}", f"/gradio_api/file/{secret}", f"/file={secret}"),
        *("/gradio_api/file=http://127.0.0.1:1/", "/gradio_api/proxy=http://127.0.0.1:1/"),
        *("/gradio_api/call/predict", "/gradio_api/call/v2/predict", "/gradio_api/run/predict"),
        *("/gradio_api/api/predict", "/gradio_api/component_server", "/gradio_api/stream/1"),
        *("/gradio_api/stream/a/b/1/playlist-file", "/gradio_api/process_recording"),
        *("/gradio_api/vibe-edit", "/gradio_api/vibe-code", "/gradio_api/deep_link"),
        *("/gradio_api/runs", "/gradio_api/info", "/gradio_api/reset", "/gradio_api/cancel"),
        "/gradio_api/custom_component/a/client/b/c",
        *("/gradio_api/queue/status", "/gradio_api/dev/reload", "/monitoring", "/queue/join"),
        *("/gradio_api/openapi.json", "/gradio_api/user", "/gradio_api/token", "/svelte/a"),
        *("/assets/%2e%2e/%2e%2e/routes.py", "/static/..%2f..%2froutes.py", "/nothing"),
        *("//gradio_api/call/predict", "/gradio_api//file=" + secret, "/pwa_icon", "/logout"),
    ):
        answer = server.client.request(method, path)
        assert answer.headers["content-type"] == "application/json", path
        assert answer.status_code in (404, 405), path
        assert answer.json()["error"].endswith(NOT_FOUND.split(";")[1]), path
    assert files(victim) == ["private.wav", "thesis.txt"]


def test_a_deep_link_is_not_looked_for(server):
    assert server.client.get("/", params={"deep_link": "../../x"}).status_code == 200
    config = server.client.get("/config", params={"deep_link": "../../x"}).json()
    assert "deep_link_state" not in config


def test_with_the_page_another_method_of_a_route_is_405(server):
    for method, path, allowed in (
        ("PUT", "/predict", "POST"),
        ("TRACE", "/health", "GET"),
        ("DELETE", "/metrics", "GET"),
    ):
        answer = server.client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert (
            answer.json()["error"] == f"{method} {path}: method not allowed; /docs lists the API."
        )


def test_a_stream_of_an_idle_session_is_not_opened(server):
    answer = server.client.get("/gradio_api/queue/data", params={"session_hash": "nobody"})
    assert (answer.status_code, list(answer.json())) == (404, ["error"])
