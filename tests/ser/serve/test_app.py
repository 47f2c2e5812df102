"""The API: the answers of `ser predict`, one sentence for everything else, and nothing kept."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import soundfile

from ser.predict.formats import to_json
from ser.serve.limits import Limits
from ser.serve.schema import Answer
from tests.ser.serve.conftest import Held, files, flac_bomb, serving, until


@pytest.fixture(scope="module")
def api(small, tmp_path_factory):
    limits = Limits(max_mb=1, max_seconds=60)
    with serving(small.p, tmp_path_factory.mktemp("api"), limits) as server:
        server.service.loading.result(60)
        with httpx.Client(base_url=server.url, timeout=60) as client:
            server.client = client
            yield server


def send(api, path, **query):
    with path.open("rb") as file:
        return api.client.post("/predict", files={"file": (path.name, file)}, params=query)


@pytest.mark.parametrize("query", [{}, {"explain": True}])
def test_a_form_and_a_bare_body_get_the_result_of_ser_predict(api, small, clip, query):
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
    ("make", "status", "sentence"),
    [
        (cut_mp3, 422, "cut.mp3: cut short ("),
        (text, 422, "notes.txt: not audio (Format not recognised); send another clip."),
        (empty, 422, "the request has no audio; send a file, or its bytes."),
        (large, 413, "the upload is larger than 1 MB; send a smaller file."),
        (
            lambda folder: flac_bomb(folder / "bomb.flac", 1800, 0),
            413,
            "the audio is longer than 60 s; send a shorter piece.",
        ),
    ],
)
def test_what_is_no_clip_gets_one_sentence_and_is_deleted(api, tmp_path, make, status, sentence):
    answer = send(api, make(tmp_path))
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert answer.json()["error"].startswith(sentence)
    assert files(api.folder) == []


@pytest.mark.parametrize(
    ("path", "sent", "status", "sentence"),
    [
        ("/nothing", {}, 404, "POST /nothing: not found; /docs lists the API."),
        ("/health", {}, 405, "POST /health: method not allowed; /docs lists the API."),
        (
            "/predict?timeline=maybe",
            {"content": b"x"},
            422,
            "timeline: it must be true or false.",
        ),
        ("/predict?explian=true", {"content": b"x"}, 422, "explian: there is no such key."),
        (
            "/predict",
            {"files": {"note": (None, "x")}},
            422,
            "the form has no file; send one in the field `file`.",
        ),
        (
            "/predict",
            {"files": [("file", ("a.wav", b"x")), ("file", ("b.wav", b"y"))]},
            400,
            "the form cannot be read (too many files. maximum number of files is 1); send one file "
            "in the field `file`.",
        ),
        (
            "/predict",
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "the form cannot be read (missing boundary in multipart); send one file in the field "
            "`file`.",
        ),
    ],
)
def test_a_wrong_request_gets_one_sentence(api, path, sent, status, sentence):
    answer = api.client.post(path, **sent)
    assert (answer.status_code, answer.json()) == (status, {"error": sentence})


def test_the_name_of_an_upload_is_only_a_name(api, clip):
    with clip.open("rb") as file:
        answer = api.client.post("/predict", files={"file": ("../../etc/a b.WAV", file)})
    assert answer.json()["path"] == "a b.WAV"


def test_the_description_needs_no_other_server(api):
    page = api.client.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    described = api.client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    codes = {"200", "400", "401", "403", "408", "421", "413", "422", "503", "504"}
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


def test_with_a_token_only_clients_that_send_it_are_served(small, clip, tmp_path):
    with (
        serving(small.p, tmp_path, token="geheim") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        assert client.get("/health").status_code in (200, 503)
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "geheim"}):
            answer = client.post("/predict", content=clip.read_bytes(), headers=headers)
            assert answer.status_code == 401
            assert answer.json() == {
                "error": "the token is missing or wrong; send `Authorization: Bearer TOKEN`."
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


def test_a_full_queue_returns_when_to_retry(small, clip, tmp_path):
    predictor = Held(small.p)
    with (
        serving(predictor, tmp_path, Limits(queue=1)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        assert client.get("/health").status_code == 503
        assert client.get("/health").json() == {"status": "loading"}
        data = clip.read_bytes()
        first = [pool.submit(client.post, "/predict", content=data) for _ in range(2)]
        until(lambda: server.service._clips == 2)
        full = client.post("/predict", content=data)
        assert (full.status_code, full.headers["retry-after"]) == (503, "4")
        assert full.json() == {"error": "the queue is full (2 clips); try again later."}
        predictor.may_load.set()
        until(lambda: client.get("/health").status_code == 200)
        predictor.may_answer.set()
        assert [each.result().status_code for each in first] == [200, 200]
        assert client.post("/predict", content=data).status_code == 200


def test_a_client_that_waited_too_long_gets_an_answer_and_the_next_are_served(
    small, clip, tmp_path
):
    predictor = Held(small.p)
    predictor.may_load.set()
    with (
        serving(predictor, tmp_path, Limits(timeout=0.5)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        late = client.post("/predict", content=clip.read_bytes())
        assert late.status_code == 504
        assert late.json() == {
            "error": "no answer within 0.5 s; send a shorter clip, or try again later."
        }
        assert files(tmp_path) == []
        predictor.may_answer.set()
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


ROUTES = ("/predict", "/health", "/metrics", "/docs", "/openapi.json", "/login", "/nothing", "/")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_another_host_or_origin_gets_nothing(api, path, method):
    for headers, status in (
        ({"host": "evil.example"}, 421),
        ({"host": f"evil.example:{api.port}"}, 421),
        ({"host": ""}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:3000", "access-control-request-method": "POST"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, 403),
    ):
        answer = api.client.request(method, path, headers=headers)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
        assert answer.headers["content-type"] == "application/json"
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_own_origin_is_answered_without_leave_for_others(api, clip):
    own = {"origin": api.url, "sec-fetch-site": "same-origin"}
    answer = api.client.post("/predict", content=clip.read_bytes(), headers=own)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_session_of_a_browser_is_for_this_server_alone(small, tmp_path):
    with serving(small.p, tmp_path, token="geheim") as server:
        form = {"token": "geheim"}
        login = httpx.post(server.url + "/login", data=form, timeout=60)
        cookie = login.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        foreign = {"origin": "http://evil.example"}
        answer = httpx.post(server.url + "/login", data=form, headers=foreign, timeout=60)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_a_client_that_leaves_frees_its_place(small, clip, tmp_path):
    predictor = Held(small.p)
    predictor.may_load.set()
    with (
        serving(predictor, tmp_path, Limits(queue=1)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        data = clip.read_bytes()
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                client.post("/predict", content=data, timeout=1)
        until(lambda: server.service._clips == 0)
        until(lambda: files(tmp_path) == [])
        predictor.may_answer.set()
        until(lambda: not server.service._jobs)
        assert client.post("/predict", content=data).status_code == 200


def test_the_time_limit_covers_decoding_and_the_others_are_served(small, clip, tmp_path):
    with serving(small.p, tmp_path, Limits(timeout=60)) as server:
        server.service.loading.result(60)
        with httpx.Client(base_url=server.url, timeout=60) as client:
            data = clip.read_bytes()
            assert client.post("/predict", content=data).status_code == 200
            (decoder,) = server.service._decoders._idle
            os.kill(decoder.pid, signal.SIGSTOP)  # as if it were at something endless
            server.service.limits = Limits(timeout=1)
            late = client.post("/predict", content=data)
            assert (late.status_code, late.json()) == (
                504,
                {"error": "no answer within 1 s; send a shorter clip, or try again later."},
            )
            until(lambda: decoder.returncode is not None)
            server.service.limits = Limits(timeout=60)
            assert client.post("/predict", content=data).status_code == 200
            assert files(tmp_path) == []


def test_audio_that_costs_minutes_is_refused_at_once(api, tmp_path):
    """As shared/cases/serve/slow_flac.py: many channels at a high rate, eight times at once."""
    path = tmp_path / "slow.flac"
    soundfile.write(path, np.ones((10 * 655_350, 8), np.int16), 655_350)
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(api, path), range(8)))
    assert time.monotonic() - begun < 60
    assert {answer.status_code for answer in answers} == {413}
    assert answers[0].json()["error"] == (
        "the audio is longer than 2.2 s, which is the limit for 8 channels at 655350 Hz; send a "
        "shorter piece, or one channel at 16000 Hz."
    )
    assert api.service._clips == 0
    assert files(api.folder) == []
