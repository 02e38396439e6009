"""Sends datapoints of value 1 as somebody else's client would: the standard library, a fresh connection for each point.

send.py PROTOCOL PORT CA NAME FROM COUNT: to 127.0.0.1, one point for each of COUNT seconds from FROM on.
"""

import http.client
import pickle
import socket
import ssl
import struct
import sys


def line(name, second):
    return f"{name} 1 {second}\n".encode()


def frame(name, second):
    payload = pickle.dumps([(name, (second, 1.0))], protocol=2)
    return struct.pack("!L", len(payload)) + payload


def stream(port, payload, tls=None):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        if tls is None:
            plain.sendall(payload)
            plain.shutdown(socket.SHUT_WR)
            assert plain.recv(1) == b""
            return
        with tls.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(payload)
            # close_notify there and back: what comes unread makes the kernel reset the connection.
            connection.unwrap()


def datagram(port, payload):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(payload, ("127.0.0.1", port))


def post(port, payload, tls):
    connection = http.client.HTTPSConnection("localhost", port, context=tls, timeout=10)
    connection.request("POST", "/api/v1/sink", payload, {"Connection": "close"})
    answer = connection.getresponse()
    body = answer.read()
    assert (answer.status, body, answer.getheader("Connection")) == (202, b"", "close"), (answer.status, body)


def main():
    protocol, port, ca, name, first, count = sys.argv[1:]
    port, first, count = int(port), int(first), int(count)
    tls = ssl.create_default_context(cafile=ca)
    send = {
        "tcp": lambda second: stream(port, line(name, second)),
        "udp": lambda second: datagram(port, line(name, second)),
        "pickle": lambda second: stream(port, frame(name, second)),
        "tls": lambda second: stream(port, line(name, second), tls),
        "pickle+tls": lambda second: stream(port, frame(name, second), tls),
        "https": lambda second: post(port, line(name, second), tls),
    }[protocol]
    for second in range(first, first + count):
        send(second)


if __name__ == "__main__":
    main()
