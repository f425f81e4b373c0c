"""Starts a server, creates test data on it, runs Schemathesis against both listeners, and prints the coverage.

    run.py SERVER [EXAMPLES]
"""

import contextlib
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import requests

HERE = pathlib.Path(__file__).resolve().parent
SEED = os.environ.get("FLASHSALE_CONTRACT_SEED", "20261111")
EXAMPLES = "10"
MAKER, CHECKER, SECRET = (f"the-{who}-of-the-contract-run" for who in ("maker", "checker", "callback-secret"))

class Refuses(http.server.BaseHTTPRequestHandler):
    """A notification receiver that rejects every notification permanently."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(410)
        self.end_headers()

    def log_message(self, *_):
        pass


def signature(secret, body):
    now = int(time.time())
    digest = hmac.new(secret.encode(), f"{now}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={now},v1={digest}"


RECEIVER = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)

CONFIG = f"""
[http]
public = "127.0.0.1:0"
operations = "127.0.0.1:0"

# No rate limits: they have their own tests, and here they would mask every other response.
[guard]
user_orders = "off"
address_orders = "off"
user_tickets = "off"
busy_address = "off"
risk = "off"

# Every order event becomes a dead letter at once, so that the dead-letter calls have data.
[notifications]
webhook = "http://127.0.0.1:{RECEIVER.server_port}/"
secret_file = "callback.key"

[secrets.callback_files]
sandbox = "callback.key"

[[operations.tokens]]
name = "maker"
roles = ["creator", "operator", "auditor"]
token = "{MAKER}"

[[operations.tokens]]
name = "checker"
roles = ["reviewer"]
token = "{CHECKER}"
"""


@contextlib.contextmanager
def serving(binary, folder):
    """Runs a server, yields the addresses of its listeners, and checks that it exits cleanly."""
    (folder / "server.toml").write_text(CONFIG)
    (folder / "callback.key").write_text(SECRET)
    with open(folder / "server.log", "wb") as log:
        command = [binary, "serve", "--demo", "--config", "server.toml", "--data", "data"]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        found = {}
        while len(found) < 2:
            line = process.stdout.readline()
            if not line:
                raise SystemExit((folder / "server.log").read_text())
            if match := re.match(r"\s+(shop|operations)\s+(http://[0-9.:]+)", line):
                found[match[1]] = match[2]
        yield found["shop"], found["operations"]
        process.terminate()
        if process.wait(timeout=60) != 0:
            raise SystemExit(f"the server exited with {process.returncode}:\n{(folder / 'server.log').read_text()}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class World:
    """The test data on the server, which gives every call a way to succeed."""

    def __init__(self, public, operations):
        self.public, self.operations = public, operations

    def call(self, url, body=None, token=None):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        response = requests.post(url, json=body, headers=headers, timeout=30)
        if not response.ok:
            raise SystemExit(f"POST {url}: {response.status_code} {response.text}")
        return response.json()

    def operate(self, path, body=None, token=MAKER):
        return self.call(self.operations + path, body, token)

    def fill(self):
        price = {"amount": 9900, "currency": "CNY"}
        skus = [str(sku) for sku in range(11, 18)]

        def offer(sku, strategy):
            return {"sku_id": sku, "price": price, "units": 1_000_000, "strategy": strategy, "hold_seconds": 86_400}

        def activity(number, status, starts, ends):
            offers = [offer("11", "pre_deduct"), offer("12", "order_time"), offer("13", "pay_time")]
            reviewer = {"reviewer": "li"} if status == "published" else {}
            return reviewer | {
                "id": str(number), "name": f"Activity {number}", "starts_at": starts, "ends_at": ends,
                "creator": "chen", "status": status, "offers": offers,
            }

        drafts, steps = range(200, 230), range(300, 316)
        windows = [(1, "now-1m", "now+6h"), (2, "now+1h", "now+2h"), (3, "now-2h", "now-1h")]
        activities = [activity(number, "published", *window) for number, *window in windows]
        activities += [activity(number, "draft", "now-1m", "now+6h") for number in [*drafts, *steps]]
        self.operate("/v1/import", {
            "products": [{"id": "1", "name": "Teapot", "description": "Cast iron."}],
            "skus": [{"id": sku, "product_id": "1", "name": f"No. {sku}", "list_price": price} for sku in skus],
            "activities": activities,
        })
        # A quarter of these activities stay drafts; each further quarter goes one step further.
        for index, number in enumerate(steps):
            for verb, token in [("submit", MAKER), ("approve", CHECKER), ("publish", MAKER)][: index % 4]:
                self.operate(f"/v1/activities/{number}/{verb}", token=token)

        session, bob = self.session("7", "Ann"), self.session("8", "Bob")
        orders = [self.order(session, sku) for sku in ("11", "12", "13") for _ in range(40)]
        payments = [self.call(f"{self.public}/v1/orders/{order}/payment", token=session) for order in orders[::2]]
        payments = [payment["payment_id"] for payment in payments]
        for payment in payments[::2]:
            self.call(f"{self.public}/sandbox/payments/{payment}/capture")
        letters = self.dead_letters(60)
        callbacks = self.callbacks(60)
        return {
            "sessions": {"ann": session, "bob": bob},
            "maker": MAKER, "checker": CHECKER, "callback_secret": SECRET,
            # Parameter values that the documents cannot give as static examples.
            "examples": {
                "public": {"order": orders[:6], "payment_id": payments[:4], "ticket": [self.ticket(session, "11")]},
                "operations": {
                    "order": orders[-6:], "activity": [*drafts[:3], *steps[:4], 1], "sku_id": [11],
                    "dead_letter": letters[:6], "callback": callbacks[:6],
                },
            },
            "dictionaries": {
                "drafts": drafts, "steps": steps, "orders": orders, "payments": payments, "letters": letters[6:],
                "callbacks": callbacks[6:],
                "tickets": [self.ticket(session, sku) for sku in ("11", "12", "13") for _ in range(20)],
            },
        }

    def dead_letters(self, least):
        """Waits for `least` dead letters and returns the ids; the server sends notifications in the background."""
        return self.parked("/v1/dead-letters?limit=100", least)

    def callbacks(self, number):
        """Reports money for unknown payments, and returns the ids of the parked callbacks."""
        for event in range(number):
            body = json.dumps({"event_id": str(event), "kind": "chargeback"})
            header = {"flashsale-signature": signature(SECRET, body), "content-type": "application/json"}
            url = f"{self.public}/v1/payments/callbacks/sandbox"
            requests.post(url, data=body, headers=header, timeout=30).raise_for_status()
        return self.parked("/v1/callbacks?limit=100", number)

    def parked(self, path, least):
        began = time.monotonic()
        while time.monotonic() - began < 60:
            url = f"{self.operations}{path}"
            items = requests.get(url, headers={"authorization": f"Bearer {MAKER}"}, timeout=30).json()["items"]
            if len(items) >= least:
                return [item["id"] for item in items]
        raise SystemExit(f"{len(items)} of {least} items of {path} within a minute")

    def session(self, user, name):
        return self.call(f"{self.public}/v1/sessions", {"user_id": user, "user_name": name})["token"]

    def ticket(self, session, sku):
        return self.call(f"{self.public}/v1/activities/1/offers/{sku}/ticket", token=session)["ticket"]

    def order(self, session, sku):
        return self.call(f"{self.public}/v1/orders/{self.ticket(session, sku)}", {"quantity": 1})["order_id"]


def check(listener, address, folder, examples):
    """Runs Schemathesis against a listener. Returns whether it passed, and the statuses that it saw."""
    seen = folder / f"{listener}.json"
    environment = os.environ | {
        "CONTRACT_WORLD": str(folder / "world.json"),
        "CONTRACT_SEEN": str(seen),
        "SCHEMATHESIS_HOOKS": "hooks",
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [
        pathlib.Path(sys.executable).parent / "schemathesis", "--config-file", folder / "schemathesis.toml",
        "run", f"{address}/openapi.json", "--checks", "all", "--seed", SEED, "--max-examples", examples,
        # All paths; by default the path of the document itself is left out.
        "--include-path-regex", ".",
    ]
    passed = subprocess.run(command, env=environment, cwd=folder).returncode == 0
    return passed, json.loads(seen.read_text())


def show(listener, address, seen, seconds):
    """Prints the statuses of each operation. Returns whether every operation of the document was called."""
    paths = requests.get(f"{address}/openapi.json", timeout=30).json()["paths"]
    operations = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    requests_sent = sum(sum(statuses.values()) for statuses in seen.values())
    succeeded = {operation for operation, statuses in seen.items() if any(s.startswith("2") for s in statuses)}
    print(f"\n{listener} listener: {len(operations)} operations, {len(seen)} called with {requests_sent} requests, ", end="")
    print(f"{len(succeeded)} of them successfully, {seconds:.0f} s")
    for operation in sorted(operations, key=lambda operation: operation.split()[::-1]):
        statuses = sorted(seen.get(operation, {}).items())
        print(f"  {operation:58} " + ("  ".join(f"{status} x {n}" for status, n in statuses) or "NOT CALLED"))
    print(flush=True)
    return operations == set(seen)


def main():
    threading.Thread(target=RECEIVER.serve_forever, daemon=True).start()
    binary = pathlib.Path(sys.argv[1]).resolve()
    examples = sys.argv[2] if len(sys.argv) > 2 else EXAMPLES
    good = True
    with tempfile.TemporaryDirectory(prefix="flashsale-contract-") as name:
        folder = pathlib.Path(name)
        with serving(binary, folder) as (public, operations):
            world = World(public, operations).fill()
            for kind, values in world.pop("dictionaries").items():
                (folder / f"{kind}.dict").write_text("".join(f'"{value}"\n' for value in values))
            (folder / "world.json").write_text(json.dumps(world | {"folder": name}))
            (folder / "buyers.json").write_text(json.dumps({"auth": [
                {"name": who, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {session}"}]}
                for who, session in world["sessions"].items()
            ]}))
            shutil.copy(HERE / "schemathesis.toml", folder)
            # Test the public listener first: operator calls end sales and stop everything.
            for listener, address in (("public", public), ("operations", operations)):
                began = time.monotonic()
                passed, seen = check(listener, address, folder, examples)
                called_all = show(listener, address, seen, time.monotonic() - began)
                good = good and passed and called_all
        if log := os.environ.get("FLASHSALE_CONTRACT_LOG"):
            shutil.copy(folder / "server.log", log)
    if not good:
        raise SystemExit("The server does not match its OpenAPI documents: see the failures above.")


main()
