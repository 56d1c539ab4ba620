"""A token server in the form of Entra ID, over TLS: client secrets, workload identity and managed identity.

Usage: entra.py PORT CERTIFICATE KEY STATE
STATE is a folder: what is in `secret` is the application's secret, `refuse` may hold an HTTP status to answer with, and each
request adds a line to `asked`.
"""

import base64
import json
import pathlib
import ssl
import sys
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, certificate, key, state = int(sys.argv[1]), sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4])
TENANT, APPLICATION = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def token_for(audience, seconds):
    now = int(time.time())
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{TENANT}/",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + seconds,
        "oid": "33333333-3333-3333-3333-333333333333",
        "tid": TENANT,
        "ver": "1.0",
    }
    return f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{encoded(claims)}.{encoded('signature')}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value, **headers):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refused(self):
        """The status that the test wants, if any."""
        try:
            return int((state / "refuse").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def note(self, how, audience):
        with open(state / "asked", "a") as asked:
            asked.write(f"{how} {audience}\n")

    def do_GET(self):
        """Managed identity, in the form of a service with an endpoint of its own."""
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path != "/msi/token" or self.headers.get("X-IDENTITY-HEADER") != "header-secret":
            return self.answer(404, {})
        audience = query.get("resource", "")
        self.note("managed", audience)
        self.answer(200, {"access_token": token_for(audience, 3600), "expires_on": str(int(time.time()) + 3600), "resource": audience, "token_type": "Bearer"})

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()))
        status = self.refused()
        if status:
            self.note("refused", form.get("scope", ""))
            return self.answer(status, {"error": "temporarily_unavailable"}, Retry_After="1")
        if self.path != f"/{TENANT}/oauth2/v2.0/token":
            return self.answer(404, {"error": "invalid_request", "error_description": f"no tenant at {self.path}"})
        audience, _, kind = form.get("scope", "").rpartition("/")
        wrong = None
        if form.get("grant_type") != "client_credentials" or kind != ".default":
            wrong = (400, "invalid_request", "AADSTS900144: the request must be for client credentials and a default scope")
        elif form.get("client_id") != APPLICATION:
            wrong = (400, "unauthorized_client", "AADSTS700016: the application was not found in the directory")
        elif "client_assertion" in form:
            if form["client_assertion"] != (state / "federated").read_text().strip():
                wrong = (401, "invalid_client", "AADSTS700213: no matching federated identity")
        elif form.get("client_secret") != (state / "secret").read_text().strip():
            wrong = (401, "invalid_client", "AADSTS7000215: invalid client secret provided")
        if wrong:
            self.note(wrong[1], audience)
            return self.answer(wrong[0], {"error": wrong[1], "error_description": wrong[2]})
        self.note("assertion" if "client_assertion" in form else "secret", audience)
        self.answer(200, {"token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600, "access_token": token_for(audience, 3600)})


server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
