"""The OpenAPI document: valid, the one in docs/, and true of what a real node answers."""

import hashlib
import json

import pytest
from devcluster import ROOT
from jsonschema import Draft202012Validator

# OpenAPI 3.1's own schema, by the OpenAPI Initiative (Apache License 2.0).
SPECIFICATION = json.loads((ROOT / "tests/fixtures/openapi-3.1.json").read_text())


@pytest.fixture(scope="module")
def document(shared_cluster):
    return shared_cluster.nodes[0].by_socket("/openapi.json")[1]


def test_the_document_is_valid_and_in_the_manual(document):
    Draft202012Validator(SPECIFICATION).validate(document)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    assert document == json.loads((ROOT / "docs/openapi.json").read_text())
    operations = [o for methods in document["paths"].values() for o in methods.values()]
    assert len({o["operationId"] for o in operations}) == len(operations)
    assert all(o["summary"] and o["responses"] for o in operations)


def strict(components):
    """With no field beside those that are described."""
    schemas = {
        name: {**schema, "unevaluatedProperties": False} if "properties" in schema else schema
        for name, schema in components["schemas"].items()
    }
    return {"schemas": schemas}


class Node:
    """Asks, and holds each answer against the document."""

    def __init__(self, node, document):
        self.node, self.document, self.seen = node, document, set()
        self.components = strict(document["components"])

    def ask(self, method, path, body=None, by_socket=True, **names):
        """The code. `names`: what stands in the path's braces."""
        ask = self.node.by_socket if by_socket else self.node.ask
        arguments = {"body": body} if body is not None else {}
        code, answer = ask(path.format(**names), method, timeout=20, **arguments)
        self.answer = answer
        operation = self.document["paths"][path.partition("?")[0]][method.lower()]
        told = operation["responses"].get(str(code))
        assert told, f"{method} {path} answers {code}: {answer}"
        for kind, content in told.get("content", {}).items():
            assert method not in ("HEAD", "OPTIONS")
            if kind == "application/json":
                schema = {**content["schema"], "components": self.components}
                Draft202012Validator(schema).validate(answer)
            else:
                assert isinstance(answer, str if kind.startswith("text/") else bytes)
        self.seen.add((method.lower(), path.partition("?")[0], code))
        return code


def test_what_nodes_answer_is_what_is_described(cluster, db, document):
    cluster.create(db, "CREATE TABLE t(x)", "INSERT INTO t VALUES (1)")
    nodes = [Node(node, document) for node in (cluster.leader(), cluster.followers()[0])]
    for node in nodes:
        for path, methods in document["paths"].items():
            for method in {"get", "head", "options"} & methods.keys() if "{" not in path else ():
                assert node.ask(method.upper(), path) in (200, 503)
    for node in nodes:
        assert node.ask("GET", "/replica?lag=x") == 400
        assert node.ask("POST", "/barrier?timeout=5s") == 200
        for query in ("timeout=2", "timeout=2m", "time=2s"):
            assert node.ask("POST", f"/barrier?{query}") == 400
        assert node.ask("POST", "/check", {"database": db}) == 200
        assert node.ask("POST", "/check", {"database": "../x"}) == 400
        for method, path in (("POST", "/switchover"), ("POST", "/check"), ("PATCH", "/config")):
            assert node.ask(method, path, by_socket=False) == 403
            assert node.ask(method, path, {"x": "y" * 100_000}) == 413
        assert node.ask("PATCH", "/config", {"log": {"level": "warn"}}) == 200
        assert node.ask("GET", "/config") == 200
        assert node.ask("PATCH", "/config", {"log": None}) == 200
        assert node.ask("PATCH", "/config", {"logg": None}) == 422
        assert node.ask("PATCH", "/config", {"journal": "any"}) == 412
        leader = cluster.leader()
        assert node.ask("POST", "/switchover", {"to": leader.name}) == 412
        other = next(n for n in cluster.nodes if n is not leader)
        assert node.ask("POST", "/switchover?timeout=10s", {"to": other.name}) == 200
        assert node.ask("GET", "/history") == 200
    databases_in_and_out(nodes[0], db)
    members_and_tokens(nodes[0], cluster)
    good = (200, 202)
    seen = {(method, path) for node in nodes for method, path, code in node.seen if code in good}
    # Nothing was set aside here; tests/cluster/test_diverged.py has what is.
    seen |= {("get", "/diverged/{id}/export"), ("delete", "/diverged/{id}")}
    described = {(m, path) for path, methods in document["paths"].items() for m in methods}
    assert seen == described, "each was answered with success by one of them"


def databases_in_and_out(node, db):
    begin, upload = "/databases/{name}/import", "/databases/{name}/import/{upload}"
    assert node.ask("GET", "/databases/{name}/export", name=db) == 200
    file = node.answer
    assert node.ask("GET", "/databases/{name}/export", name="none.db") == 404
    wanted = {"bytes": len(file), "sha256": hashlib.sha256(file).hexdigest()}
    assert node.ask("POST", begin, wanted, name=db) == 409
    for _ in range(2):
        assert node.ask("POST", begin, wanted, name="in.db") == 200
        names = {"name": "in.db", "upload": node.answer["upload"]}
        assert node.ask("PUT", upload + "?offset=0", file, **names) == 200
        if not node.seen & {("delete", upload, 200)}:
            assert node.ask("DELETE", upload, **names) == 200
    assert node.ask("POST", upload + "?timeout=30s", **names) == 200
    assert node.ask("GET", "/diverged/{id}/export", id="none") == 404
    assert node.ask("DELETE", "/diverged/{id}", id="none") == 404


def members_and_tokens(node, cluster):
    assert node.ask("POST", "/tokens", {"ttl": "1h"}) == 200
    assert node.ask("DELETE", "/tokens/{id}", id=node.answer["id"]) == 200
    assert node.ask("DELETE", "/tokens/{id}", id="none") == 404
    follower = cluster.followers()[0]
    assert node.ask("POST", "/members/{name}/demote", name=follower.name) == 200
    assert node.ask("POST", "/members/{name}/promote", name=follower.name) in (200, 202)
    assert node.ask("POST", "/members", {"name": "new", "address": "127.0.0.1:9"}) == 200
    assert node.ask("POST", "/members", {"name": "new", "address": "127.0.0.1:9"}) == 409
    assert node.ask("DELETE", "/members/{name}", name="new") == 200
    assert node.ask("DELETE", "/members/{name}", name="new") == 404
    assert node.ask("POST", "/ca/rotate") == 202
