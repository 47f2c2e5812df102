"""The API: the answers of `ser predict`, one sentence for everything else, and nothing kept."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import soundfile

from ser.predict.formats import to_json
from ser.serve.limits import Limits
from ser.serve.schema import Answer
from tests.ser.serve.conftest import Held, files, flac_bomb, serving


@pytest.fixture(scope="module")
def api(small, tmp_path_factory):
    limits = Limits(max_mb=1, max_seconds=60, patience=1.0)
    with serving(small.p, tmp_path_factory.mktemp("api"), limits) as server:
        server.service.loading.result(60)
        with httpx.Client(base_url=server.url, timeout=60) as client:
            server.client = client
            yield server


def send(api, path, **query):
    with path.open("rb") as file:
        return api.client.post("/predict", files={"file": (path.name, file)}, params=query)


@pytest.mark.parametrize("query", [{}, {"explain": True}])
def test_a_form_and_a_bare_body_get_what_ser_predict_says(api, small, clip, query):
    expected = json.loads(to_json(small.p(clip, **query)))
    answer = send(api, clip, **query)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == expected | {"path": "u14.wav"}
    assert Answer.model_validate_json(answer.text).seconds == expected["seconds"]
    bare = api.client.post("/predict", content=clip.read_bytes(), params=query)
    assert bare.json() == expected | {"path": "audio"}
    assert files(api.folder) == []


def test_a_timeline_is_of_speech(api, clip):
    pytest.importorskip("silero_vad")
    answer = send(api, clip, timeline=True)
    assert answer.status_code == 422
    assert answer.json() == {"error": "u14.wav: no speech was found; send another clip."}


def cut_mp3(folder):
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000 * 20)
    soundfile.write(folder / "cut.mp3", noise, 16_000)
    data = (folder / "cut.mp3").read_bytes()
    (folder / "cut.mp3").write_bytes(data[: len(data) // 3])
    return folder / "cut.mp3"


def text(folder):
    (folder / "notes.txt").write_text("no audio at all\n")
    return folder / "notes.txt"


def large(folder):
    (folder / "large.wav").write_bytes(bytes(1_000_001))
    return folder / "large.wav"


def empty(folder):
    (folder / "empty.wav").touch()
    return folder / "empty.wav"


@pytest.mark.parametrize(
    ("make", "status", "said"),
    [
        (cut_mp3, 422, "cut.mp3: cut short ("),
        (text, 422, "notes.txt: not audio (Format not recognised); send another clip."),
        (empty, 422, "there is no audio in the request; send a file, or its bytes."),
        (large, 413, "the upload is larger than 1 MB; send a smaller file."),
        (
            lambda folder: flac_bomb(folder / "bomb.flac", 1800, 0),
            413,
            "the audio is longer than 60 s; send a shorter piece.",
        ),
    ],
)
def test_what_is_no_clip_gets_one_sentence_and_is_deleted(api, tmp_path, make, status, said):
    answer = send(api, make(tmp_path))
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert answer.json()["error"].startswith(said)
    assert files(api.folder) == []


@pytest.mark.parametrize(
    ("path", "sent", "status", "said"),
    [
        ("/nothing", {}, 404, "POST /nothing: not found; /docs lists what there is."),
        ("/health", {}, 405, "POST /health: method not allowed; /docs lists what there is."),
        (
            "/predict?timeline=maybe",
            {"content": b"x"},
            422,
            "timeline: input should be a valid boolean, unable to interpret input.",
        ),
        (
            "/predict",
            {"files": {"note": (None, "x")}},
            422,
            "there is no file in the form; send one as the field `file`.",
        ),
        (
            "/predict",
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "Missing boundary in multipart.",
        ),
    ],
)
def test_a_wrong_request_gets_one_sentence(api, path, sent, status, said):
    answer = api.client.post(path, **sent)
    assert (answer.status_code, answer.json()) == (status, {"error": said})


def test_the_name_of_an_upload_is_only_a_name(api, clip):
    with clip.open("rb") as file:
        answer = api.client.post("/predict", files={"file": ("../../etc/a b.WAV", file)})
    assert answer.json()["path"] == "a b.WAV"


def test_the_description_needs_no_other_server(api):
    page = api.client.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    described = api.client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    codes = {"200", "400", "401", "408", "413", "422", "503", "504"}
    assert set(described["responses"]) == codes
    wanted = {"multipart/form-data", "application/octet-stream", "audio/*"}
    assert set(described["requestBody"]["content"]) == wanted


def counts(api):
    lines = api.client.get("/metrics").text.splitlines()
    return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_metrics_count_answers_audio_and_memory(api, clip, tmp_path):
    before = counts(api)
    seconds = send(api, clip).json()["seconds"]
    send(api, text(tmp_path))
    after = counts(api)
    gained = {k: v - before.get(k, 0) for k, v in after.items()}
    assert gained['ser_requests_total{source="api",status="200"}'] == 1
    assert gained['ser_requests_total{source="api",status="422"}'] == 1
    assert gained["ser_prediction_seconds_count"] == 1
    assert gained["ser_audio_seconds_total"] == pytest.approx(seconds, abs=1e-6)
    assert after["ser_queue_length"] == 0
    assert after["ser_peak_memory_bytes"] > 50e6


def test_with_a_token_only_who_knows_it_comes_in(small, clip, tmp_path):
    with (
        serving(small.p, tmp_path, token="geheim") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        assert client.get("/health").status_code in (200, 503)
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "geheim"}):
            answer = client.post("/predict", content=clip.read_bytes(), headers=headers)
            assert answer.status_code == 401
            assert answer.json() == {
                "error": "this server wants its token; send it as `Authorization: Bearer TOKEN`."
            }
        assert client.get("/metrics").status_code == 401
        right = {"authorization": "Bearer geheim"}
        answer = client.post("/predict", content=clip.read_bytes(), headers=right)
        assert answer.status_code == 200
        form = client.get("/docs", headers={"accept": "text/html"})
        assert (form.status_code, "Token of this server" in form.text) == (401, True)
        assert client.post("/login", data={"token": "wrong"}).cookies == {}
        client.post("/login", data={"token": "geheim"})
        assert "geheim" not in str(client.cookies.jar)
        assert client.get("/docs").status_code == 200


def until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_full_queue_says_when_to_come_back(small, clip, tmp_path):
    held = Held(small.p)
    with (
        serving(held, tmp_path, Limits(queue=1)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        assert client.get("/health").status_code == 503
        assert client.get("/health").json() == {"status": "loading"}
        data = clip.read_bytes()
        first = [pool.submit(client.post, "/predict", content=data) for _ in range(2)]
        until(lambda: len(server.service._jobs) == 2)
        full = client.post("/predict", content=data)
        assert (full.status_code, full.headers["retry-after"]) == (503, "4")
        assert full.json() == {"error": "2 clips wait already; try again later."}
        held.may_load.set()
        until(lambda: client.get("/health").status_code == 200)
        held.may_answer.set()
        assert [each.result().status_code for each in first] == [200, 200]
        assert client.post("/predict", content=data).status_code == 200


def test_who_waited_too_long_gets_an_answer_and_the_next_are_served(small, clip, tmp_path):
    held = Held(small.p)
    held.may_load.set()
    with (
        serving(held, tmp_path, Limits(timeout=0.5)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        late = client.post("/predict", content=clip.read_bytes())
        assert late.status_code == 504
        assert late.json() == {"error": "no answer within 0.5 s; send less audio, or try later."}
        assert files(tmp_path) == []
        held.may_answer.set()
        until(lambda: not server.service._jobs)
        server.service.limits = Limits()
        assert client.post("/predict", content=clip.read_bytes()).status_code == 200


def test_many_at_once_all_get_their_own_answer(api, small):
    clips = [small.audio / f"u{i}.wav" for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda path: send(api, path).json(), clips))
    assert [answer["path"] for answer in answers] == [path.name for path in clips]
    expected = [small.p(path).probabilities for path in clips]
    assert [a["probabilities"] for a in answers] == [pytest.approx(e, abs=1e-6) for e in expected]
    assert files(api.folder) == []
