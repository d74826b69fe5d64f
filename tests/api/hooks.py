"""What Schemathesis cannot know: vouchers, tokens, and bodies that are not JSON.

Part of the requests carry what really pays, so that the fuzzer gets beyond the first check. The
choice hangs on the request alone: the same request is the same again.
"""

import hashlib
import json
import os
import threading
from collections import Counter

import schemathesis
from hypothesis import strategies as st

with open(os.environ["TOCYN_API_SCENE"]) as file:
    SCENE = json.load(file)

TOKEN_REQUEST = "application/private-token-request"
BATCH_REQUEST = "application/private-token-amortized-batch-request"
# The generator of ristretto255 (RFC 9496): as good a blinded element as any.
ELEMENT = bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76")
HEAD = bytes([0, 5, SCENE["key_id"]])
CELL_BYTES = SCENE["cell_bytes"]


def batch(count):
    """An AmortizedBatchTokenRequest whose elements are all the same."""
    size = count * len(ELEMENT)
    if size < 64:
        varint = bytes([size])
    elif size < 16384:
        varint = (0x4000 | size).to_bytes(2, "big")
    else:
        varint = (0x80000000 | size).to_bytes(4, "big")
    return HEAD + varint + ELEMENT * count


def cell(number):
    return hashlib.shake_128(number.to_bytes(4, "big")).digest(CELL_BYTES)


def damaged(strategy):
    """One byte of it is another."""

    def damage(parts):
        body, at, byte = parts
        at %= len(body)
        return body[:at] + bytes([byte]) + body[at + 1 :]

    return st.tuples(strategy, st.integers(0, 2**16), st.integers(0, 255)).map(damage)


one = st.just(HEAD + ELEMENT)
batches = st.one_of(st.integers(1, 16), st.sampled_from([64, 512, 513, 1024, 1025])).map(batch)
cells = st.integers(0, 300).map(cell)
anything = st.binary(max_size=80)
other_sizes = st.sampled_from([CELL_BYTES - 1, CELL_BYTES + 1, 8 * CELL_BYTES]).map(bytes)
schemathesis.openapi.media_type(TOKEN_REQUEST, st.one_of(one, damaged(one), anything))
schemathesis.openapi.media_type(BATCH_REQUEST, st.one_of(batches, damaged(batches), anything))
schemathesis.openapi.media_type("application/octet-stream", st.one_of(cells, cells, anything, other_sizes))


def number_of(case):
    """A number that hangs on the request alone."""
    body = case.body if isinstance(case.body, bytes) else repr(case.body).encode()
    said = repr((case.method, case.path, sorted(map(repr, case.headers.items())))).encode()
    return int.from_bytes(hashlib.sha256(said + b"\0" + body).digest()[:8], "big")


def is_post(case):
    """Whether it goes to where messages are posted."""
    return case.path == "/v1/messages" and case.method == "POST"


def credential(case):
    """What to send as Authorization; None leaves what Schemathesis made."""
    number = number_of(case)
    pick, rest = number // 8 % 4, number // 32
    if case.path == "/token-request" and pick > 0:
        return "Bearer " + SCENE["vouchers"][rest % len(SCENE["vouchers"])]
    if case.path == "/v1/grants" and pick > 0:
        return "Bearer " + SCENE["webhook"]
    if is_post(case) and pick > 0:
        return f'PrivateToken token="{SCENE["tokens"][rest % len(SCENE["tokens"])]}"'
    return None


@schemathesis.hook
def before_call(context, case, kwargs):
    chosen = credential(case)
    if chosen is not None:
        case.headers["Authorization"] = chosen
    if (is_post(case) or case.path == "/token-request") and number_of(case) % 8 == 0:
        case.headers["Content-Type"] = "text/plain"
    query = case.query or {}
    if str(query.get("follow", "")).lower() == "true":
        # A stream that stays open would end only with the fuzzer's patience.
        query["limit"] = 0


SEEN = Counter()
LOCK = threading.Lock()


@schemathesis.hook
def after_call(context, case, response):
    """Counts what was answered, for fuzz.py to see that the fuzzer got far enough."""
    with LOCK:
        SEEN[f"{case.method} {case.path} {response.status_code}"] += 1
        with open(os.environ["TOCYN_API_SEEN"], "w") as file:
            json.dump(SEEN, file)


@schemathesis.check
def no_failure(ctx, response, case):
    """Beside what a loaded service may say, no 5xx."""
    assert response.status_code < 500 or response.status_code in (503, 507), "the service failed"
