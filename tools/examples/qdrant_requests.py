#!/usr/bin/env python3
"""Holds requests that sink/qdrant has sent in its tests against the schemas of
Qdrant's own client: every body must be one that its models accept whole, with
no field that they do not know.

usage: qdrant_requests.py FOLDER, of what PERMAFROST_QDRANT_REQUESTS=FOLDER go test wrote
"""
import json
import pathlib
import re
import sys
import uuid

from pydantic import TypeAdapter
from qdrant_client.http import models

SCHEMAS = [
    ("GET", r"/collections/[^/?]+", None),
    ("PUT", r"/collections/[^/?]+", models.CreateCollection),
    ("PUT", r"/collections/[^/?]+/points\?wait=true", models.PointInsertOperations),
    ("POST", r"/collections/[^/?]+/points", models.PointRequest),
]
sent = dict.fromkeys((m for *_, m in SCHEMAS), 0)


def known(got, model):
    """Finds what a model has dropped or changed."""
    again = model.model_dump(mode="json", exclude_unset=True)
    assert again == got, f"{got} is read as {again}"


for file in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    for r in json.loads(file.read_text()):
        found = [model for method, path, model in SCHEMAS if r["method"] == method and re.fullmatch(path, r["path"])]
        assert len(found) == 1, f"an unknown request: {r['method']} {r['path']}"
        model, = found
        sent[model] += 1
        if model is None:
            assert "body" not in r, r
            continue
        parsed = TypeAdapter(model).validate_python(r["body"])
        known(r["body"], parsed)
        for point in getattr(parsed, "points", []):
            assert str(uuid.UUID(point.id)) == point.id and uuid.UUID(point.id).version == 8
        if model is models.CreateCollection:
            assert parsed.vectors.distance in models.Distance
assert all(sent.values()), f"not all kinds were sent: {sent}"
print(f"qdrant: {sum(sent.values())} requests are as Qdrant's own client knows them")
