"""Reads the metrics at a URL as a scraper would, in both formats, and prints one sample a line: format, name, labels, value.

openmetrics.py URL: ends with an error where the parsers of prometheus_client find one.
"""

import json
import sys
import urllib.request

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

FORMATS = {
    "openmetrics": ("application/openmetrics-text; version=1.0.0", openmetrics_parser),
    "text": ("text/plain; version=0.0.4", parser),
}

for name, (accept, reader) in FORMATS.items():
    request = urllib.request.Request(sys.argv[1], headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        kind, page = answer.headers["Content-Type"], answer.read().decode()
    assert kind.startswith(accept), kind
    for family in reader.text_string_to_metric_families(page):
        assert family.documentation, family.name
        for sample in family.samples:
            print(json.dumps([name, sample.name, sample.labels, sample.value]))
