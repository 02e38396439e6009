"""Reads manifests, says which are not as Kubernetes' own schemas have them, and prints them as JSON.

Strict: a key that no schema knows is amiss. The schema of a ServiceMonitor is written here as far as we use it, after the
custom resource definition of prometheus-operator: no registry of packages has the definition itself.
"""

import json
import sys

import jsonschema
import kubernetes_validate
import yaml

VERSION = "1.33"

closed = {"type": "object", "additionalProperties": False}
string = {"type": "string"}
key_of_secret = {**closed, "required": ["key"], "properties": {"name": string, "key": string}}
service_monitor = {
    **closed,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "ServiceMonitor"},
        "metadata": {"type": "object"},
        "spec": {
            **closed,
            "required": ["selector", "endpoints"],
            "properties": {
                "selector": {**closed, "properties": {"matchLabels": {"type": "object"}}},
                "endpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        **closed,
                        "properties": {
                            "port": string,
                            "path": string,
                            "scheme": {"enum": ["http", "https"]},
                            "interval": {"type": "string", "pattern": r"^[0-9]+(ms|s|m|h)$"},
                            "authorization": {
                                **closed,
                                "properties": {"type": string, "credentials": key_of_secret},
                            },
                            "tlsConfig": {
                                **closed,
                                "properties": {
                                    "serverName": string,
                                    "ca": {**closed, "properties": {"secret": key_of_secret}},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}

documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
amiss = 0
for document in documents:
    try:
        if document["kind"] == "ServiceMonitor":
            jsonschema.validate(document, service_monitor)
        else:
            kubernetes_validate.validate(document, VERSION, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        amiss += 1
        where = "/".join(str(part) for part in error.path)
        print(f"{document['kind']} {document['metadata']['name']}: {where}: {error.message}", file=sys.stderr)
json.dump(documents, sys.stdout)
sys.exit(bool(amiss))
