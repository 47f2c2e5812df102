import polars as pl

from ser.engines.engine import Engine
from ser.smoke import demo


def test_a_head_is_trained_on_each_core(tmp_path, monkeypatch):
    engines = []
    monkeypatch.setattr(demo, "synthesize", lambda folder: pl.DataFrame({"utterance": ["a"]}))
    monkeypatch.setattr(demo, "run_all", lambda *args, engine: engines.append(engine))
    monkeypatch.setattr(demo, "cores", lambda: 3)
    demo.demo(tmp_path, lambda line: None)
    assert engines == [Engine(jobs=3)]
