"""HTTP: a strict parser, deadlines, room for every client and security headers, on waitress 3.0.

Promises: a request that two readers could understand differently is refused (RFC 9112) and its connection closed. Every
part of a request and of its response has a deadline. A new connection is always accepted; at the limits one of the client
with the most connections is evicted. Every response carries the security headers, whether the application, waitress or
the parser made it. The application sees the client's own address, or ``unknown``, and never what a client claims.

Depends on waitress and on `web.client_address`; it knows no page. waitress is subclassed and pinned to ``~=3.0.2``, since
its defences are not configurable: `tests/web/http/test_waitress.py` names every internal that is used.

Read `listener` first (sockets, eviction, idle exit), then `connection` (phases and deadlines), `parser` (the rules of RFC
9112 as one table), `response` (WSGI environment and headers); `headers` is the table of header fields, `proxy_protocol`
the connection of a TLS proxy on a Unix socket.
"""
