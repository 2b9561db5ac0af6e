"""A Python that starts with the large packages imported: every program is a fork of one process.

Importing torch and transformers takes seconds, and a small study starts a hundred programs. What
programs compute, print and return is theirs; tests of faults, of a cluster and of the Hub start
Python itself, as users do.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = (
    "matplotlib.pyplot",
    "polars",
    "pyarrow.parquet",
    "pydantic",
    "safetensors.torch",
    "scipy.stats",
    "seaborn",
    "sklearn.linear_model",
    "snakemake.cli",
    "torch",
    "transformers",
    "transformers.models.llama.modeling_llama",
)

CLIENT = """\
#!{python} -IS
import json, os, socket, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(request)
    status = server.recv(1)
sys.exit(status[0])
"""


@cache
def warm_python() -> Path:
    """Start the process; return a program that is called as `python` is.

    The process ends with the one that called this.
    """
    folder = tempfile.TemporaryDirectory(prefix="python-")
    atexit.register(folder.cleanup)
    address = f"{folder.name}/socket"
    server = subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    program = Path(folder.name) / "python"
    python = Path(sys.executable).resolve()
    program.write_text(CLIENT.format(python=python, address=address), encoding="utf-8")
    program.chmod(0o755)
    return program


def main() -> None:
    """Import the packages and run the programs that are asked for."""
    # Beside this file, which is a program here.
    import executed_definitions

    for package in PACKAGES:
        importlib.import_module(package)
    # The objects so far are everyone's: nobody's garbage collection has to look through them.
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        print("ready", flush=True)
        words, folder, environment = _next_program(listener)
    # What programs start with `sys.executable` is a fork as well.
    sys.executable = str(Path(sys.argv[1]).with_name("python"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    status = _run(words, executed_definitions.record_if_asked)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # Freeing so many packages takes longer than most programs.
    os._exit(status)


def _run(words: list[str], record: Callable[[Path], None]) -> int:
    """Run a program, or after `-m` a module, as the main one; return its exit status.

    `record` is called with a program before it runs.
    """
    module = words[0] == "-m"
    sys.argv = words[module:]
    folder = Path.cwd() if module else Path(words[0]).resolve().parent
    paths = os.environ["PYTHONPATH"].split(os.pathsep)
    # What the server was started with makes room for what the program would have been.
    sys.path[:1] = [str(folder), *paths]
    try:
        if module:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            record(Path(words[0]).resolve())
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _next_program(listener: socket.socket) -> tuple[list[str], str, dict[str, str]]:
    """Return what a program is started with, in a process of its own.

    Its parent, also a fork, tells the caller how it ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if listener not in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            break
        connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as file:
        request: Any = json.loads(file.read(int.from_bytes(size, "big")))
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    if program := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        connection.sendall(bytes([status % 256]))
        os._exit(0)
    connection.close()
    return request


if __name__ == "__main__":
    main()
