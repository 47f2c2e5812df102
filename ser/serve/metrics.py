"""The counters of the server, in Prometheus's text format."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ser.corpus.machine import peak_memory

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)


class Metrics:
    """The counters of one server; `source` is `api` or `page`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        gauge = partial(Gauge, registry=self._registry)
        histogram = partial(Histogram, buckets=SECONDS, registry=self._registry)
        self.requests = counter(
            "ser_requests", "Requests by source and status.", ["source", "status"]
        )
        self.seconds = histogram(
            "ser_prediction_seconds", "Seconds from request to answer, waiting included."
        )
        self.audio = counter("ser_audio_seconds", "Seconds of audio predicted on.")
        self.queue = gauge("ser_queue_length", "Clips that wait or are being processed.")
        self.windows = counter(
            "ser_live_windows", "Windows of live audio: predicted, failed or left out.", ["outcome"]
        )
        self.window_seconds = histogram(
            "ser_live_prediction_seconds",
            "Seconds from a complete window to its prediction, waiting included.",
        )
        self.live_audio = counter("ser_live_audio_seconds", "Seconds of live audio received.")
        self.streams = gauge("ser_live_streams", "Live streams that are open.")
        gauge("ser_peak_memory_bytes", "Highest resident memory.").set_function(peak_memory)

    def text(self) -> bytes:
        """Return all counters in Prometheus's text format."""
        return generate_latest(self._registry)
