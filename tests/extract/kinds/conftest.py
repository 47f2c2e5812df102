import pytest


@pytest.fixture
def no_waiting(monkeypatch):
    """Let a failed request fail at once."""
    from ser.extract.kinds import llm

    monkeypatch.setattr(llm, "TRIES", 0)
    monkeypatch.setattr(llm, "TRIES_AT_FIRST", 0)


@pytest.fixture(scope="class")
def server():
    """Start the synthetic server of a language model."""
    from ser.synthetic.server import ChatServer

    with ChatServer() as server:
        yield server
