"""An HTTPS gateway in front of carbon, in the shape of Hosted Graphite's: carbon itself speaks no HTTP.

POST or PUT /api/v1/sink with Graphite lines. 202 says that carbon has read them to the end; 400 that a line is not one
(and nothing was passed on); 503 that carbon could not be reached or did not confirm. The user of Basic authentication is
the account and becomes the first part of each name, as in the other protocols, where the sender puts it there.
"""

import argparse
import base64
import binascii
import http.server
import math
import re
import socket
import ssl
import sys

NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
LONGEST_BODY = 1 << 20


class BadRequest(Exception):
    """The request is refused with 400, for the reason given."""


def checked(line):
    """The line, where it is a datapoint that carbon would take."""
    fields = line.split()
    if len(fields) != 3:
        raise BadRequest(f"{line!r}: expected NAME VALUE TIMESTAMP")
    name, value, timestamp = fields
    if not NAME.fullmatch(name):
        raise BadRequest(f"{name!r} is not a name")
    try:
        if not math.isfinite(float(value)) or int(timestamp) <= 0:
            raise ValueError
    except ValueError:
        raise BadRequest(f"{line!r}: the value or the timestamp is not one") from None
    return line


def account(authorization):
    """The prefix that the user of Basic authentication stands for; empty where nobody is named."""
    if not authorization:
        return ""
    kind, _, credentials = authorization.partition(" ")
    try:
        user = base64.b64decode(credentials, validate=True).decode("ascii").partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        user = ""
    if kind.lower() != "basic" or not NAME.fullmatch(user):
        raise BadRequest("the Authorization header is not Basic with a name as its user")
    return user + "."


def hand_over(carbon, lines, timeout):
    """Sends the lines to carbon and returns once it has read them to the end; OSError where it does not."""
    with socket.create_connection(carbon, timeout) as connection:
        connection.sendall(lines)
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1):
            raise OSError("carbon's line port answered, which it never does")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    # The whole answer in one record: a body written by itself would wait for a delayed ACK.
    wbufsize = -1

    def do_POST(self):
        if self.path != "/api/v1/sink":
            self.answer(404, f"no such path: {self.path}")
            return
        try:
            lines = self.lines()
            hand_over(self.server.carbon, lines, self.server.patience)
        except BadRequest as error:
            self.answer(400, str(error))
        except OSError as error:
            self.answer(503, f"carbon cannot be reached: {error}")
        else:
            self.answer(202)

    do_PUT = do_POST

    def lines(self):
        try:
            length = int(self.headers["Content-Length"])
        except (TypeError, ValueError):
            self.close_connection = True
            raise BadRequest("Content-Length is missing") from None
        if not 0 < length <= LONGEST_BODY:
            self.close_connection = True
            raise BadRequest(f"the body must have 1 to {LONGEST_BODY} bytes")
        prefix = account(self.headers["Authorization"])
        try:
            text = self.rfile.read(length).decode("ascii")
        except UnicodeDecodeError:
            raise BadRequest("the body is not ASCII") from None
        return "".join(f"{prefix}{checked(line)}\n" for line in text.splitlines()).encode()

    def answer(self, status, reason=""):
        body = f"{reason}\n".encode() if reason else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        """Keeps the log to what went wrong."""
        if code != 202:
            super().log_request(code, size)


class Gateway(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, arguments):
        super().__init__(("127.0.0.1", arguments.port), Handler)
        self.carbon = ("127.0.0.1", arguments.carbon)
        self.patience = arguments.patience
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(arguments.certificate)

    def finish_request(self, request, client_address):
        # Here rather than on accept: this runs in the connection's own thread, and a peer that stalls stalls nobody else.
        request.settimeout(Handler.timeout)
        try:
            with self.tls.wrap_socket(request, server_side=True) as connection:
                super().finish_request(connection, client_address)
                connection.settimeout(1)
                connection.unwrap()
        except OSError as error:
            # A client that gives up is nothing to report at length; many do, on purpose.
            print(f"{client_address[0]}:{client_address[1]}: {error}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True, help="where to listen, on 127.0.0.1")
    parser.add_argument("--carbon", type=int, required=True, help="carbon's line port, on 127.0.0.1")
    parser.add_argument("--certificate", required=True, help="a PEM file with the certificate and its key")
    parser.add_argument("--patience", type=float, default=30, help="seconds to wait for carbon (default %(default)s)")
    Gateway(parser.parse_args()).serve_forever()


if __name__ == "__main__":
    main()
