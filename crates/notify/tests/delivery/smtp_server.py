"""A mail server: aiosmtpd, which says on standard error where it listens, and each mail that it took as a line of JSON.

    smtp_server.py starttls|tls|plain DIRECTORY

DIRECTORY has certificate.pem and key.pem. Over TLS, it asks for the user `aviary` and the password `hunter2`. It takes
no mail for gone@example.com, and has no time for busy@example.com.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == "gone@example.com":
            return "550 5.1.1 no such user"
        if address == "busy@example.com":
            return "451 4.3.0 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        headers = {name.lower(): str(value) for name, value in mail.items()}
        text = mail.get_content().replace("\r\n", "\n")
        user = session.auth_data.login.decode() if session.auth_data else None
        tls = session.ssl is not None
        taken = {"to": envelope.rcpt_tos, "headers": headers, "text": text, "user": user, "tls": tls}
        # In one word, for whoever reads a line of words.
        say("MAIL", json.dumps(taken, separators=(",", ":")).replace(" ", "\\u0020"))
        return "250 2.0.0 queued as 4F2A"


def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(
        success=(data.login, data.password) == (b"aviary", b"hunter2"), handled=False, auth_data=data
    )


async def main(mode, directory):
    tls = None
    if mode != "plain":
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(f"{directory}/certificate.pem", f"{directory}/key.pem")
    asked = {"authenticator": authenticate, "auth_required": True, "auth_require_tls": mode == "starttls"} if tls else {}
    if mode == "starttls":
        asked |= {"tls_context": tls, "require_starttls": True}
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Handler(), hostname="mail.example.com", **asked),
        "127.0.0.1",
        0,
        ssl=tls if mode == "tls" else None,
    )
    say("LISTENING", server.sockets[0].getsockname()[1])
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
