"""The counters of the server, in Prometheus's text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ser.corpus.machine import peak_memory

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)


class Metrics:
    """The counters of one server; `source` is `api` or `page`."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "ser_requests",
            "Requests by source and status.",
            ["source", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "ser_prediction_seconds",
            "Seconds from request to answer, waiting included.",
            buckets=SECONDS,
            registry=registry,
        )
        self.audio = Counter(
            "ser_audio_seconds", "Seconds of audio predicted on.", registry=registry
        )
        self.queue = Gauge(
            "ser_queue_length", "Clips that wait or are being processed.", registry=registry
        )
        self.windows = Counter(
            "ser_live_windows",
            "Windows of live audio: predicted, failed or left out.",
            ["outcome"],
            registry=registry,
        )
        self.window_seconds = Histogram(
            "ser_live_prediction_seconds",
            "Seconds from a complete window to its prediction, waiting included.",
            buckets=SECONDS,
            registry=registry,
        )
        self.live_audio = Counter(
            "ser_live_audio_seconds", "Seconds of live audio received.", registry=registry
        )
        self.streams = Gauge("ser_live_streams", "Live streams that are open.", registry=registry)
        memory = Gauge("ser_peak_memory_bytes", "Highest resident memory.", registry=registry)
        memory.set_function(peak_memory)

    def text(self) -> bytes:
        """Return all counters in Prometheus's text format."""
        return generate_latest(self._registry)
