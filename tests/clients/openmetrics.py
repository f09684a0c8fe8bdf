"""Reads OpenMetrics from standard input with the strict parser of Prometheus' own client, and prints it as JSON."""

import json
import math
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

found = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.name.startswith("witgate_"), family.name
    assert family.documentation and family.type != "unknown", family
    for sample in family.samples:
        assert math.isfinite(sample.value), sample
        found.setdefault(sample.name, []).append({"labels": sample.labels, "value": sample.value})
print(json.dumps(found))
