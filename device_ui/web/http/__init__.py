"""HTTP: a strict parser, deadlines, room for every client and security headers, on waitress 3.0.

Promises
- A request that two readers could understand differently is refused (RFC 9112) and its connection closed. So no request can be
  smuggled past a proxy in front.
- Every part of a request and of its response has a deadline, on the monotonic clock.
- A new connection is always accepted. At the limits one of the network and the client with the most connections is evicted.
- Every response has the security headers, whether the application, waitress or the parser made it.
- The application sees the client's own address, or ``unknown``, and never an address that the client itself claims.

Depends on waitress, `web.client_address`, `rate_limit` and `logging_setup`; it knows no page. waitress is subclassed and pinned
to ``~=3.0.2``, since its defences are not configurable: `tests/web/http/test_waitress.py` names every internal that is used.

Read first
- `listener`: sockets, eviction, exit when idle.
- `connection`: the phases of a connection and their deadlines.
- `parser`: the rules of RFC 9112 as one table, and chunked bodies.
- `response`: WSGI environment and headers; `headers` is the table of header fields.
- `proxy_protocol`: the connection of a TLS proxy on a Unix socket.
"""
