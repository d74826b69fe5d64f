"""Fuzzes the HTTP of both services by the documents that they serve.

Starts the real programs on free loopback ports, lets Schemathesis loose on each document, and
then looks whether they still live, are no larger than they may be, have not panicked, and still
serve an honest client.
"""

import argparse
import base64
import hashlib
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import urllib.request

import openapi_spec_validator

HERE = pathlib.Path(__file__).parent
CHECKS = [
    "no_failure",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
]
# The most memory that a service may ever have taken. A build for tests takes about 20 MB.
MAX_MEMORY_KB = 128 * 1024
WEBHOOK = "0123456789abcdef0123456789abcdef"
# Few, so that the fuzzer also spends them twice.
TOKENS = 32


class Service:
    """A program that serves, its addresses and its log."""

    def __init__(self, program, data, **settings):
        self.log = data / "stderr"
        command = [program, "--data", data, "serve", "--listen", "127.0.0.1:0"]
        environment = os.environ | {"RUST_LOG": "info"} | settings
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        self.url = self.next_url()

    def next_url(self):
        line = self.process.stdout.readline().decode()
        if not (said := re.search(r" on (http://\S+)$", line.strip())):
            sys.exit(f"it does not serve: {line}{self.log.read_text()}")
        return said[1]

    def faults(self):
        """What is wrong with it after all that."""
        if self.process.poll() is not None:
            yield f"it ended with {self.process.returncode}"
            return
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        memory_kb = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])
        print(f"    at most {memory_kb // 1024} MB of memory")
        if memory_kb > MAX_MEMORY_KB:
            yield f"it took {memory_kb} kB of memory, more than {MAX_MEMORY_KB}"
        self.process.send_signal(signal.SIGTERM)
        if (code := self.process.wait(60)) != 0:
            yield f"told to stop, it ended with {code}"
        if "panicked" in self.log.read_text():
            yield "it panicked"


def run(*command, said=None):
    done = subprocess.run(command, input=said, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command} failed: {done.stderr}")
    return done.stdout


def get(url):
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def honest_client(tocyn, wallet, issuer, relay, voucher, text):
    """Buys, posts and reads."""
    client = [tocyn, "--wallet", wallet]
    run(*client, "request", "--issuer", issuer, "--relay", relay, "--voucher", voucher, "--count", "16")
    run(*client, "post", "--relay", relay, said=text)
    if text not in run(*client, "read", "--relay", relay):
        sys.exit(f"{text!r} was posted, and cannot be read")


def tokens_of(wallet):
    """The tokens of a wallet, as headers have them."""
    with sqlite3.connect(wallet / "wallet.sqlite") as database:
        rows = database.execute("SELECT token FROM tokens").fetchall()
    return [base64.urlsafe_b64encode(row[0]).decode() for row in rows]


def fuzz(name, url, scene, folder, seconds, expected):
    """Lets Schemathesis loose; gives what it found, and what it should have come to see."""
    openapi_spec_validator.validate(get(f"{url}/openapi.json"))
    seen, report = folder / f"{name}.seen", folder / f"{name}.log"
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
        "TOCYN_API_SCENE": str(scene),
        "TOCYN_API_SEEN": str(seen),
    }
    command = [
        *[pathlib.Path(sys.executable).parent / "schemathesis", "run", f"{url}/openapi.json"],
        *["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"],
        *["--max-time", str(seconds), "--max-examples", "1000000", "--continue-on-failure"],
        *["--request-timeout", "20", "--warnings", "off", "--generation-database", "none"],
        *["--output-sanitize", "false", "--suppress-health-check", "all", "--no-color"],
    ]
    if seed := os.environ.get("TOCYN_SEED"):
        command += ["--seed", seed]
    with open(report, "w") as log:
        code = subprocess.run(command, env=environment, cwd=folder, stdout=log, stderr=log).returncode
    counts = json.loads(seen.read_text()) if seen.exists() else {}
    print(f"{name}: {sum(counts.values())} requests")
    for what, count in sorted(counts.items()):
        # Each method that a path does not take is tried once.
        if not what.endswith(" 405"):
            print(f"    {what}: {count}")
    if code != 0:
        yield f"{name}: Schemathesis ended with {code}:\n{report.read_text()}"
    for what in expected:
        if what not in counts:
            yield f"{name}: the fuzzer never saw {what}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", type=pathlib.Path, help="the folder of the three programs")
    parser.add_argument("seconds", type=int, help="for each document")
    arguments = parser.parse_args()
    programs, seconds = arguments.programs.resolve(), arguments.seconds
    with tempfile.TemporaryDirectory(prefix="tocyn-api-") as folder:
        folder = pathlib.Path(folder)
        services = {}
        try:
            faults = list(scene(programs, folder, seconds, services))
        finally:
            for service in services.values():
                if service.process.poll() is None:
                    service.process.kill()
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


def scene(programs, folder, seconds, services):
    issuer_data, relay_data = folder / "issuer", folder / "relay"
    tocyn, issuer = programs / "tocyn", [programs / "tocyn-issuer", "--data", issuer_data]
    names = ["--issuer-name", "issuer.example", "--origin-name", "relay.example"]
    run(*issuer, "init", *names)
    pairing = issuer_data / "pairing.toml"
    run(programs / "tocyn-relay", "--data", relay_data, "init", "--pairing", pairing)
    services["issuer"] = Service(
        programs / "tocyn-issuer",
        issuer_data,
        TOCYN_ISSUER__ADMIN__LISTEN="127.0.0.1:0",
        TOCYN_ISSUER__ATTESTERS__WEBHOOK__ENABLED="true",
        TOCYN_ISSUER__ATTESTERS__WEBHOOK__CREDENTIAL=WEBHOOK,
        TOCYN_ISSUER__ATTESTERS__POW__ENABLED="true",
        TOCYN_ISSUER__ATTESTERS__POW__BUDGET="1000",
    )
    services["relay"] = Service(programs / "tocyn-relay", relay_data)
    url, relay_url = services["issuer"].url, services["relay"].url
    operator_url = services["issuer"].next_url()

    def voucher(tokens):
        return run(*issuer, "voucher", "create", "--tokens", str(tokens)).strip()

    rich, poor = voucher(100_000_000), voucher(1)
    honest_client(tocyn, folder / "wallet", url, relay_url, rich, "before")
    request = ["request", "--issuer", url, "--relay", relay_url, "--voucher", rich]
    run(tocyn, "--wallet", folder / "spent", *request, "--count", str(TOKENS))
    key = get(f"{url}/.well-known/private-token-issuer-directory")["token-keys"][0]["token-key"]
    known = folder / "scene.json"
    known.write_text(
        json.dumps(
            {
                "vouchers": [rich, rich, rich, poor],
                "webhook": WEBHOOK,
                "tokens": tokens_of(folder / "spent"),
                "key_id": hashlib.sha256(base64.urlsafe_b64decode(key)).digest()[-1],
                "cell_bytes": get(f"{relay_url}/v1/info")["cell_bytes"],
            }
        )
    )
    tokens = [f"POST /token-request {status}" for status in (200, 401, 403, 415, 422)]
    posts = [f"POST /v1/messages {status}" for status in (200, 201, 401, 409, 413, 415, 422)]
    reads = ["GET /v1/messages 200", "GET /v1/messages 400", "GET /tile/{path} 200", "GET /tile/{path} 404"]
    grants = [f"POST /v1/grants {status}" for status in (200, 400, 401)]
    yield from fuzz("issuer", url, known, folder, seconds, tokens)
    yield from fuzz("relay", relay_url, known, folder, seconds, posts + reads)
    yield from fuzz("operator", operator_url, known, folder, seconds, grants)
    honest_client(tocyn, folder / "wallet", url, relay_url, rich, "after")
    for name, service in services.items():
        print(f"{name}:")
        yield from (f"{name}: {fault}" for fault in service.faults())


main()
