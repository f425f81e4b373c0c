"""Tells Schemathesis what the documents cannot: operator roles, the signatures of payment providers, and the directories
that backups may write to. Also counts the statuses of each operation for the table that run.py prints."""

import atexit
import hashlib
import hmac
import json
import os
import time
from collections import Counter, defaultdict

import schemathesis
from schemathesis import GenerationMode

with open(os.environ["CONTRACT_WORLD"], encoding="utf-8") as file:
    WORLD = json.load(file)
SEEN = defaultdict(Counter)


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Adds examples for the data that run.py has created."""
    listener = "public" if raw_schema["info"]["title"].endswith("public listener") else "operations"
    for name, values in WORLD["examples"][listener].items():
        parameter = raw_schema["components"]["parameters"][name]
        parameter.pop("example", None)
        parameter["examples"] = {f"number {index}": {"value": str(value)} for index, value in enumerate(values)}


@schemathesis.auth()
class Operators:
    """Selects the token of an operator with the right role. Buyers are in the configuration."""

    def get(self, case, context):
        reviews = (case.path_parameters or {}).get("verb") in ("approve", "reject")
        return WORLD["checker" if reviews else "maker"]

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Bearer {data}"


def sign(request):
    """Signs the request body as a payment provider would."""
    body = request.body or b""
    now = str(int(time.time()))
    signed = f"{now}.".encode() + (body.encode() if isinstance(body, str) else body)
    digest = hmac.new(WORLD["callback_secret"].encode(), signed, hashlib.sha256).hexdigest()
    request.headers["flashsale-signature"] = f"t={now},v1={digest}"
    return request


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.operation.path == "/v1/payments/callbacks/{provider}" and is_positive(case):
        # Only valid reports are signed: the server keeps an authentic report that it does not understand, and answers 200.
        kwargs["auth"] = sign
    if case.operation.path == "/v1/backup" and isinstance(case.body, dict):
        # A backup creates the requested directory: keep it inside the folder of this run.
        directory = case.body.get("directory")
        if isinstance(directory, str) and (directory.startswith("/") or ".." in directory):
            case.body["directory"] = os.path.join(WORLD["folder"], directory.replace("/", "_"))


@schemathesis.hook
def after_call(context, case, response):
    # Ignore requests with a method other than the operation's.
    if case.method.upper() == case.operation.method.upper():
        SEEN[f"{case.operation.method.upper()} {case.operation.path}"][response.status_code] += 1


@atexit.register
def write():
    with open(os.environ["CONTRACT_SEEN"], "w", encoding="utf-8") as file:
        json.dump(SEEN, file)
