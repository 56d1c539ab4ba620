"""A token server in the form of Entra ID, over TLS: client secrets and certificates, workload identity and managed identity; and a
Key Vault.

Usage: entra.py PORT CERTIFICATE KEY STATE, or entra.py ADDRESS STATE for the metadata service of an Azure machine alone, without TLS.
STATE is a folder: what is in `secret` is the application's secret, `application.pem` and `renewed.pem` are made as its
certificates, `stranger.pem` as one that nobody knows, `refuse` may hold an HTTP status to answer with, each request adds a line to
`asked`, `seconds` may hold how long tokens are good, and `vault` is a folder of secrets; what is called `forbidden` there is not given.
"""

import base64
import datetime
import hashlib
import json
import pathlib
import re
import ssl
import sys
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

is_metadata_service = len(sys.argv) == 3
state = pathlib.Path(sys.argv[-1])
address = (sys.argv[1], 80) if is_metadata_service else ("127.0.0.1", int(sys.argv[1]))
port = address[1]
TENANT, APPLICATION = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


VAULT = "https://vault.azure.net"
# Public keys of the application, by the thumbprints of their certificates; and the assertions that were used.
registered, used = {}, set()


def make_certificate(file, is_registered):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (state / file).write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    if is_registered:
        der = certificate.public_bytes(serialization.Encoding.DER)
        thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
        registered[thumbprint] = (file.removesuffix(".pem"), key.public_key())


def judge_assertion(assertion):
    """Who signed it, and what is wrong with it, of which one is None."""
    header = jwt.get_unverified_header(assertion)
    if header.get("x5t#S256") not in registered:
        return None, "AADSTS700027: the certificate used to sign the client assertion is not registered on the application"
    who, key = registered[header["x5t#S256"]]
    try:
        endpoint = f"https://localhost:{port}/{TENANT}/oauth2/v2.0/token"
        required = {"require": ["aud", "exp", "iss", "jti", "nbf", "sub"]}
        claims = jwt.decode(assertion, key, algorithms=["PS256"], audience=endpoint, issuer=APPLICATION, options=required)
    except jwt.PyJWTError as e:
        return None, f"AADSTS50027: the assertion is invalid: {e}"
    if claims["sub"] != APPLICATION or claims["exp"] - claims["nbf"] > 600 or claims["jti"] in used:
        return None, "AADSTS50027: the assertion is of somebody else, too long, or was used before"
    used.add(claims["jti"])
    return who, None


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def lifetime():
    try:
        return int((state / "seconds").read_text())
    except (FileNotFoundError, ValueError):
        return 3600


def token_for(audience):
    now, seconds = int(time.time()), lifetime()
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

    def vault(self, name):
        """A secret of a Key Vault, and its refusals."""
        def refuse(status, code, message):
            self.note("vault-refused", name)
            self.answer(status, {"error": {"code": code, "message": message}})

        try:
            payload = self.headers.get("Authorization", "").split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (IndexError, ValueError):
            claims = {}
        if claims.get("aud") != VAULT or claims["exp"] <= time.time():
            return refuse(401, "Unauthorized", "AKV10022: invalid audience")
        if name == "forbidden":
            return refuse(403, "Forbidden", "Caller is not authorized to perform action on resource.\r\nCaller: appid=the-caller")
        path = state / "vault" / name
        if not path.exists():
            return refuse(404, "SecretNotFound", f"A secret with (name/id) {name} was not found in this key vault.")
        self.note("vault", name)
        self.answer(200, {"value": path.read_text(), "id": f"https://vault/secrets/{name}/0", "attributes": {"enabled": True}})

    def do_GET(self):
        """Managed identity, in the form of a service with an endpoint of its own or of a machine; and secrets."""
        url = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        secret = re.fullmatch("/secrets/([A-Za-z0-9-]+)", url.path)
        if secret and "api-version" in query and not is_metadata_service:
            return self.vault(secret[1])
        audience = query.get("resource", "")
        if is_metadata_service:
            if url.path != "/metadata/identity/oauth2/token" or self.headers.get("Metadata") != "true":
                return self.answer(400, {"error": "invalid_request"})
            self.note("machine", audience)
        elif url.path == "/msi/token" and self.headers.get("X-IDENTITY-HEADER") == "header-secret":
            self.note("managed", audience)
        else:
            return self.answer(404, {})
        self.answer(200, {"access_token": token_for(audience), "expires_on": str(int(time.time()) + lifetime()), "resource": audience, "token_type": "Bearer"})

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()))
        status = self.refused()
        if status:
            self.note("refused", form.get("scope", ""))
            return self.answer(status, {"error": "temporarily_unavailable"}, Retry_After="1")
        if self.path != f"/{TENANT}/oauth2/v2.0/token":
            return self.answer(404, {"error": "invalid_request", "error_description": f"no tenant at {self.path}"})
        audience, _, kind = form.get("scope", "").rpartition("/")
        wrong, how = None, "secret"
        if form.get("grant_type") != "client_credentials" or kind != ".default":
            wrong = (400, "invalid_request", "AADSTS900144: the request must be for client credentials and a default scope")
        elif form.get("client_id") != APPLICATION:
            wrong = (400, "unauthorized_client", "AADSTS700016: the application was not found in the directory")
        elif form.get("client_assertion") == (state / "federated").read_text().strip():
            how = "assertion"
        elif form.get("client_assertion", "").count(".") == 2:
            how, why = judge_assertion(form["client_assertion"])
            wrong = (401, "invalid_client", why) if why else None
        elif "client_assertion" in form:
            wrong = (401, "invalid_client", "AADSTS700213: no matching federated identity")
        elif form.get("client_secret") != (state / "secret").read_text().strip():
            wrong = (401, "invalid_client", "AADSTS7000215: invalid client secret provided")
        if wrong:
            self.note(wrong[1], audience)
            return self.answer(wrong[0], {"error": wrong[1], "error_description": wrong[2]})
        self.note(how, audience)
        self.answer(200, {"token_type": "Bearer", "expires_in": lifetime(), "ext_expires_in": lifetime(), "access_token": token_for(audience)})


if not is_metadata_service:
    for file, is_registered in (("application.pem", True), ("renewed.pem", True), ("stranger.pem", False)):
        make_certificate(file, is_registered)
server = ThreadingHTTPServer(address, Handler)
if not is_metadata_service:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
