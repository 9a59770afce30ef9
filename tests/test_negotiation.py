"""Which format a scrape gets: one table of the Accept headers that clients send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics.exposition import OPENMETRICS, TEXT
from exporter.web.negotiation import DEFAULT, negotiate

OPENMETRICS_OLD = "application/openmetrics-text; version=0.0.1; charset=utf-8"
TEXT_NEW = "text/plain; version=1.0.0; charset=utf-8"

ACCEPTS = {
    "absent": (None, TEXT),
    "empty": ("", TEXT),
    "curl": ("*/*", TEXT),
    "a browser": ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
    "Prometheus 2.42": (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        OPENMETRICS,
    ),
    "Prometheus 3, every protocol": (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        f"{OPENMETRICS}; escaping=allow-utf-8",
    ),
    "Prometheus 3, text 1.0.0 preferred": (
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.4",
        f"{TEXT_NEW}; escaping=allow-utf-8",
    ),
    "Prometheus 3, legacy names": (
        "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=underscores;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        f"{OPENMETRICS}; escaping=underscores",
    ),
    "Prometheus 3, legacy names, text": ("text/plain;version=1.0.0;escaping=underscores", f"{TEXT_NEW}; escaping=underscores"),
    "Prometheus 2.42, native histograms": (
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
        "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        OPENMETRICS,
    ),
    "Prometheus 3, native histograms": (
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        f"{OPENMETRICS}; escaping=allow-utf-8",
    ),
    "vmagent": ("text/plain;version=0.0.4;q=1,*/*;q=0.1", TEXT),
    "Telegraf": (
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
        "text/plain;version=0.0.4;q=0.3",
        TEXT,
    ),
    "Go's expfmt": ("text/plain; version=0.0.4", TEXT),
    "OpenTelemetry": (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        f"{OPENMETRICS}; escaping=allow-utf-8",
    ),
    "OpenMetrics without a version": ("application/openmetrics-text", OPENMETRICS),
    "an old OpenMetrics alone": ("application/openmetrics-text; version=0.0.1", OPENMETRICS_OLD),
    "text preferred": ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.9", TEXT),
    "equal: the first one": ("text/plain,application/openmetrics-text", TEXT),
    "equal: the first one again": ("application/openmetrics-text,text/plain", OPENMETRICS),
    "a quoted version": ('text/plain;version="1.0.0"', TEXT_NEW),
    "a version that is not ours": ("application/openmetrics-text;version=2.0.0", TEXT),
    "a text version that is not ours": ("text/plain;version=7", TEXT),
    "an unknown escaping": ("text/plain;version=1.0.0;escaping=rot13", TEXT_NEW),
    "broken version": ("application/openmetrics-text;version=abc", TEXT),
    "broken quality": ("application/openmetrics-text;q=nonsense", TEXT),
    "refused": ("application/openmetrics-text;q=0", TEXT),
    "punctuation": (";;;q=,,/", TEXT),
    "control characters": ("\x00\xff", TEXT),
}


@pytest.mark.parametrize("client", ACCEPTS)
def test_what_each_client_gets(client):
    """
    Text 0.0.4 unless the client prefers another version, with the escaping it asks for; OpenMetrics where it is preferred.
    """
    accept, content_type = ACCEPTS[client]
    negotiated = negotiate(accept)

    assert negotiated.content_type == content_type
    assert negotiated.format == (OPENMETRICS if "openmetrics" in content_type else TEXT)


@given(st.text())
def test_no_header_breaks_the_page(accept):
    """
    Whatever a client sends, it gets one of the formats.
    """
    assert negotiate(accept).format in (TEXT, OPENMETRICS)
    assert negotiate("x/y;" + accept.replace(",", "")) == DEFAULT
