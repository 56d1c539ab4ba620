"""Runs a command in a terminal of its own and presses keys. Prints what was seen, as JSON.

Usage: watch_in_terminal.py WORD KEYS COMMAND...   (WORD: what the screen shows before the first key is pressed)
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

PATIENCE_SECONDS = 120
KEY_SECONDS = 1.0


def main():
    word, keys, command = sys.argv[1].encode(), sys.argv[2], sys.argv[3:]
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)
    resize(terminal, child, 24, 80)
    seen, waiting, deadline, next_key = b"", list(keys), time.monotonic() + PATIENCE_SECONDS, None
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        if ready:
            try:
                new = os.read(terminal, 65536)
            except OSError:
                break
            if not new:
                break
            seen += new
        if next_key is None and word in seen:
            # Another size first: the screen follows it.
            resize(terminal, child, 15, 60)
            next_key = time.monotonic() + KEY_SECONDS
        if next_key is not None and waiting and time.monotonic() >= next_key:
            os.write(terminal, waiting.pop(0).encode())
            next_key = time.monotonic() + KEY_SECONDS
    else:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    is_echoing = True
    try:
        is_echoing = bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
    except termios.error:
        pass
    text = seen.decode(errors="replace")
    left = text.rfind("\x1b[?1049l")
    print(
        json.dumps(
            {
                "code": os.waitstatus_to_exitcode(status),
                "entered": "\x1b[?1049h" in text,
                "left": left > text.rfind("\x1b[?1049h"),
                "cursor": text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"),
                "echo": is_echoing,
                "colors": "\x1b[38;5;" in text,
                "after": text[left:],
                "all": text,
            }
        )
    )


def resize(terminal, child, rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.kill(child, signal.SIGWINCH)


if __name__ == "__main__":
    main()
