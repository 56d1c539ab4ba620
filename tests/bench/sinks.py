"""Where contenders upload to: the receiver of the bench, or Azurite."""

import base64
import datetime
import hashlib
import hmac
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

from ferry import cpu_seconds, free_port, get, wait_until

TOOLS = Path(__file__).resolve().parent.parent.parent / ".tools"
ACCOUNT = "devstoreaccount1"
# The emulator's well-known key; the receiver takes any.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def account_sas():
    """A signature for everything in the account, as Azure Storage, "Create an account SAS", has it."""
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    end = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    version, rights = "2023-11-03", "rwdlac"
    to_sign = "\n".join([ACCOUNT, rights, "b", "sco", "", end, "", "https,http", version, "", ""])
    signed = base64.b64encode(hmac.digest(base64.b64decode(KEY), to_sign.encode(), hashlib.sha256)).decode()
    parts = {"sv": version, "ss": "b", "srt": "sco", "sp": rights, "se": end, "spr": "https,http", "sig": signed}
    return urllib.parse.urlencode(parts)


class Sink:
    """A blob service with one container."""

    integrity = "crc64"

    def __init__(self, folder):
        self.folder, self.port, self.sas = Path(folder), free_port(), account_sas()
        self.endpoint = f"http://127.0.0.1:{self.port}/{ACCOUNT}"
        self.container = f"{self.endpoint}/staging"

    def start(self, command):
        log = open(self.folder / f"{type(self).__name__}.log", "ab")
        self.program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self):
        self.program.kill()
        self.program.wait()

    def cpu_seconds(self):
        return cpu_seconds(self.program.pid)


class Receiver(Sink):
    """Throws the bytes away: the speed of a sink that is never in the way."""

    def __init__(self, folder):
        super().__init__(folder)
        self.start([str(TOOLS / "bench/receiver"), "--listen", f"127.0.0.1:{self.port}"])
        wait_until("the receiver", lambda: self.stats() is not None)

    def stats(self):
        return get(f"http://127.0.0.1:{self.port}/stats")

    def empty(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/stats", method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()


class Azurite(Sink):
    """Microsoft's emulator, new and empty for each contender: it slows down as it fills."""

    # It does not know CRC-64.
    integrity = "md5"

    def __init__(self, folder):
        super().__init__(folder)
        self.program = None
        self.empty()

    def empty(self):
        if self.program:
            self.stop()
        home = self.folder / "azurite"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        program = str(TOOLS / "npm/node_modules/azurite/dist/src/blob/main.js")
        flags = ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        self.start(["node", program, "--blobPort", str(self.port), "-l", str(home), *flags])
        wait_until("Azurite", self.make_container)

    def make_container(self):
        url = f"{self.container}?restype=container&{self.sas}"
        request = urllib.request.Request(url, data=b"", method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status == 201

    def stats(self):
        """Counts what is there, by listing it."""
        blobs, bytes_there, marker = 0, 0, ""
        while True:
            query = f"restype=container&comp=list&marker={urllib.parse.quote(marker)}&{self.sas}"
            with urllib.request.urlopen(f"{self.container}?{query}", timeout=60) as answer:
                text = answer.read().decode()
            sizes = re.findall(r"<Content-Length>(\d+)<", text)
            blobs, bytes_there = blobs + len(sizes), bytes_there + sum(map(int, sizes))
            found = re.search(r"<NextMarker>([^<]+)</NextMarker>", text)
            if not found:
                return {"blobs": blobs, "bytes": bytes_there}
            marker = found[1]
