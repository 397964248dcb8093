"""How much one visitor may ask for at once, and how much all of them together."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Any

from gradio.queueing import Queue

from app.server.doors import Refusal, Scope

HEAVY = ("generation", "methods", "channel")  # concurrency ids of what draws or learns
WAITING = 24  # of each of those, of all visitors
OWN = 8  # of those, waiting or under way, of one visitor; a class behind one address shares them
PROXIES = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)  # this machine and networks of one's own; nobody else is believed about whom a request is from
UNREAD = 32  # questions of one session whose answers it has not fetched


def require_room(queue: Queue, scope: Scope, session: Any, function: Any) -> None:
    """Raise Refusal, saying how long it takes, where a visitor or all together ask for more than is answered."""
    if len(queue.pending_event_ids_session.get(session, ())) >= UNREAD:
        raise _later(429, f"Expected answers to be read; {UNREAD} of this session wait to be.", 5)
    if function.concurrency_id not in HEAVY:
        return
    line = queue.event_queue_per_concurrency_id.get(function.concurrency_id)
    waiting = len(line.queue) if line else 0
    each = queue.process_time_per_fn[function].avg_time if function in queue.process_time_per_fn else 10.0
    wait = max(1, round(each * (waiting + 1) / (function.concurrency_limit or 1)))
    if waiting >= WAITING:
        raise _later(503, f"{waiting} runs wait already, about {wait} s. Try again then.", wait)
    own = Counter(visitor(event.request.scope, event.session_hash) for event in _under_way(queue))
    if own[visitor(scope, session)] >= OWN:
        raise _later(429, f"{OWN} runs of yours wait or are under way. Try again in about {wait} s.", wait)


def _later(status: int, sentence: str, seconds: int) -> Refusal:
    return Refusal(status, sentence, **{"retry-after": str(seconds)})


def visitor(scope: Scope, session: Any) -> str:
    """Whose request it is: the address that it comes from, behind a proxy of one's own the one that this has seen.

    A proxy adds whom it has seen at the end of what it was told, which anybody may have made up. The session where the
    address is this machine itself.
    """
    address = _address((scope.get("client") or ("",))[0])
    if address is not None and any(address in network for network in PROXIES):
        hops = [
            value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"x-forwarded-for"
        ]
        address = _address(",".join(hops).rsplit(",", 1)[-1].strip()) or address
    return str(session) if address is None or address.is_loopback else str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text is; None for none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _under_way(queue: Queue) -> list[Any]:
    """The events that wait or run and that take long."""
    return [event for event in queue.event_ids_to_events.values() if event.concurrency_id in HEAVY]
