"""Tests for L{proxyd.web.metrics}."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from proxyd.figures import Figure
from proxyd.web.metrics import Metrics


class MetricsTests(SynchronousTestCase):
    """Figures in Prometheus's own format, as its own parser reads them."""

    def setUp(self) -> None:
        self.figures: list[Figure] = []
        self.metrics = Metrics(lambda: self.figures)

    def read(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Every sample of ours, by its name and labels."""
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.metrics.text().decode())
            for sample in family.samples
            if sample.name.startswith("proxyd_")
        }

    def test_kinds(self) -> None:
        """What only grows is a counter; labels with any letter in them come through."""
        odd = 'a"b\\c\nd'
        self.figures = [
            Figure("things", "Things", 5, {"connection": odd}),
            Figure("things", "Things", 6, {"connection": "b"}),
            Figure("done", "Done", 7, only_grows=True),
        ]
        found = self.read()
        self.assertEqual(found["proxyd_things", (("connection", odd),)], 5)
        self.assertEqual(found["proxyd_things", (("connection", "b"),)], 6)
        self.assertEqual(found["proxyd_done_total", ()], 7)
        text = self.metrics.text().decode()
        self.assertIn("# TYPE proxyd_done_total counter", text)
        self.assertIn("# TYPE proxyd_things gauge", text)
        self.assertEqual(text.count("# TYPE proxyd_things "), 1)

    def test_gathered_when_asked(self) -> None:
        """Nothing is kept: each time the figures are asked for anew."""
        asked = []

        def gather() -> Iterator[Figure]:
            asked.append(1)
            yield Figure("asked", "Asked", len(asked))

        self.metrics = Metrics(gather)
        self.assertEqual(asked, [])
        self.assertEqual(self.read()["proxyd_asked", ()], 1)
        self.assertEqual(self.read()["proxyd_asked", ()], 2)

    def test_requests(self) -> None:
        """Answers are counted by call and status; paths that are none are one series."""
        self.metrics.counted("GET /healthz", 200)
        self.metrics.counted("GET /healthz", 200)
        for _ in range(100):
            self.metrics.counted("", 404)
        found = self.read()
        name = "proxyd_api_requests_total"
        labels = (("method", "GET"), ("path", "/healthz"), ("status", "200"))
        self.assertEqual(found[name, labels], 2)
        self.assertEqual(sum(1 for key in found if key[0] == name), 2)

    def test_process(self) -> None:
        """Memory, descriptors and processor time are there, too."""
        text = self.metrics.text()
        for name in (b"process_resident_memory_bytes", b"process_open_fds", b"proxyd_build_info"):
            self.assertIn(name, text)
