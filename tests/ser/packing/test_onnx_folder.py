"""`ser pack --onnx`: a folder with the graphs of a run."""

import json

import numpy as np
import onnxruntime
import pytest

from ser.cache.precision import Encoded
from ser.cache.strides import as_layers, side_by_side
from ser.corpus.atomic import host
from ser.corpus.errors import UserError
from ser.packing import onnx_heads
from ser.packing.onnx_folder import export
from ser.predict.bundle import open_bundle
from ser.predict.shelf import SHELF
from ser.stack.table import Rows
from tests.ser.factories import ser

HEADS = ("gru", "stats", "rated")


def read(path, inputs):
    """Run a graph; return its outputs by name."""
    session = onnxruntime.InferenceSession(path)
    inputs = {i.name: inputs[i.name] for i in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def some_clips(heads, lengths):
    """Return random frames of every feature that the heads read, as the cache stores them."""
    rng, shapes = np.random.default_rng(0), {}
    for head in heads:
        for use in head.config.features:
            if use.layer is None:
                shapes[use.name] = head.saved.record.frames[use.name]
    return {
        name: [Encoded(rng.normal(size=(n, *shape)).astype("<f4")) for n in lengths]
        for name, shape in shapes.items()
    }


def padded(clips, layers):
    """Return frames and mask as the graph of a head reads them, padded with ones."""
    read = [side_by_side(clip.data, layers) for clip in clips]
    mask = np.arange(max(map(len, read)))[None] < np.array(list(map(len, read)))[:, None]
    frames = np.ones((*mask.shape, *read[0].shape[1:]), np.float32)
    frames[mask] = np.concatenate(read)
    return frames, mask


@pytest.mark.slow
def test_the_graphs_of_a_run_predict_as_the_run_does(small, tmp_path):
    done = ser("pack", small.run, "--onnx", "onnx", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "onnx: 4 ONNX graphs; README.md has their inputs\n"
    heads, between, expected = small.p.trained_heads, {}, {}
    clips = some_clips(heads, (5, 1, 12))
    for head in heads:
        inputs = {}
        for use in head.config.features:
            frames, mask = padded(clips[use.name], as_layers(use.layer))
            inputs |= {use.name: frames, f"{use.name}.mask": mask}
        of_head = {use.name: clips[use.name] for use in head.config.features}
        outputs = read(tmp_path / f"onnx/heads/{head.saved.name}.onnx", inputs)
        expected |= {f"{head.saved.name}.{k}": v for k, v in head.predict(of_head).items()}
        between |= {f"{head.saved.name}.{k}": v for k, v in outputs.items()}
    for name, values in between.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-4, err_msg=name)
    logits = np.concatenate([expected[f"{name}.logits"] for name in HEADS], axis=1)
    rows = Rows.new(logits, expected["rated.attributes"])
    prediction, outputs = small.p.stack.predict(rows), read(tmp_path / "onnx/stack.onnx", between)
    np.testing.assert_allclose(outputs["probabilities"], prediction.probability, atol=1e-4)
    np.testing.assert_allclose(outputs["attributes"], prediction.attributes, atol=1e-4)
    assert np.array_equal(outputs["emotion"], prediction.chosen)


def test_what_has_no_graph_is_listed_and_the_rest_is_written(small, tmp_path, monkeypatch):
    def refuse(head, path, metadata):
        raise UserError(f"head '{head.saved.name}': it has none.")

    monkeypatch.setattr(onnx_heads, "export_head", refuse)
    done = ser("pack", small.run, "--onnx", "onnx", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (
        1,
        "onnx: 1 ONNX graph; README.md has their inputs\n",
    )
    problems = [f"head '{name}': it has none." for name in HEADS]
    assert done.stderr.splitlines() == [f"ser: {problem}" for problem in problems]
    session = onnxruntime.InferenceSession(tmp_path / "onnx/stack.onnx")
    classes = session.get_modelmeta().custom_metadata_map["classes"]
    assert json.loads(classes) == list(small.p.classes)
    readme = (tmp_path / "onnx/README.md").read_text()
    listed = "".join(f"- {problem}\n" for problem in problems)
    assert f"## Without a graph\n\n{listed}" in readme
    assert "| `rated.attributes` | (batch, 3) float32 | its output `attributes` |" in readme
    assert "| `probabilities` | (batch, 3) float32 | output: of the classes |" in readme
    model = "kind: whisper, model: whisper-tiny.en"
    options = f"{{{model}, window: trim, silence: 8.0, precision: float16}}"
    assert f"| `whisper` | `{options}` | 50 Hz |" in readme
    options = "{kind: whisper, precision: int8, model: whisper, layer: all, window: trim}"
    assert f"| `layers` | `{options}` |  |" in readme
    assert "## Licence\n\nsmall states no licence." in readme
    assert readme.startswith("# small as ONNX\n\nGraphs of gru, stats, rated of small, written by")
    done = ser("pack", small.run, "--onnx", "onnx", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("ser: onnx: it exists and is not an empty folder; choose")


def test_a_bundle_hands_on_its_licence_its_threshold_and_its_card(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_heads, "export_head", lambda *_: None)
    folder = tmp_path / "new/onnx"
    folder.mkdir(parents=True)
    left = folder.with_name(f".onnx.{host()}-{2**31}-0123abcd.part")  # of a killed process
    left.mkdir()
    assert ser("pack", "acted-speech-4", "--onnx", folder, cwd=tmp_path).returncode == 0
    assert list(folder.parent.iterdir()) == [folder]
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "card.md",
        "heads",
        "stack.onnx",
    ]
    session = onnxruntime.InferenceSession(folder / "stack.onnx")
    assert session.get_modelmeta().custom_metadata_map["licence"] == "CC BY-NC-SA 4.0"
    readme, evaluation = (folder / "README.md").read_text(), open_bundle(SHELF).record.evaluation
    assert (
        "bundle: CC BY-NC-SA 4.0.**\n\nTerms of the corpora: RAVDESS: CC BY-NC-SA 4.0; " in readme
    )
    assert f"highest probability is below {evaluation.min_confidence:g}." in readme


@pytest.mark.parametrize("last", ["onnx_heads.export_head", "onnx_folder._readme"])
def test_an_export_that_is_stopped_leaves_nothing(last, small, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx_heads, "export_head", lambda head, path, _: path.write_bytes(b"half"))
    monkeypatch.setattr(f"ser.packing.{last}", stop)
    with pytest.raises(KeyboardInterrupt):
        export(small.p, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [("-o", "x.ser"), ("--push", "hf:a/b"), ("--private",), ("--embed",), ("--risk", "0")],
    ids=lambda words: words[0],
)
def test_options_of_a_bundle_are_refused(words, tmp_path):
    done = ser("pack", "acted-speech-4", "--onnx", "onnx", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ser: {words[0]} does not go with --onnx; ")


def test_a_folder_in_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place in ("file", "file/a", "file/a/b"):
        done = ser("pack", "acted-speech-4", "--onnx", place, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"ser: {place}: file is not a folder; choose another one.\n"
