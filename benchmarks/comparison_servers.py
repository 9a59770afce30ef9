"""Starting what is scraped and compared: our servers, Go's client and nginx, where they are there."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent
GOPATH = "/usr/share/gocode"
"""Where Debian's packages put the sources of libraries."""
GO_CLIENT_PATH = "src/github.com/prometheus/client_golang"
BUILD_TIMEOUT = 900


def find_program(program: str) -> str | None:
    """Find a program on the PATH, or where Debian keeps what administrators start."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def build_go(folder: Path) -> Path | str:
    """Build Go's peer; return the program, or what is missing."""
    if not (go := find_program("go")):
        return "go is not installed (Debian: golang-go)"
    gopath = os.environ.get("GOPATH", GOPATH)
    if not (Path(gopath) / GO_CLIENT_PATH).exists():
        return "Go's client is not installed (Debian: golang-github-prometheus-client-golang-dev)"
    own = {"GO111MODULE": "off", "GOPATH": gopath, "GOCACHE": str(folder / "go-cache"), "GOFLAGS": "", "CGO_ENABLED": "0"}
    command = [go, "build", "-o", str(folder / "peer"), str(FOLDER / "peer.go")]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=BUILD_TIMEOUT, check=False)
    return folder / "peer" if done.returncode == 0 else f"Go's peer cannot be built: {done.stderr.splitlines()[:1]}"


@contextmanager
def run_server(*command: str | Path) -> Iterator[int]:
    """Run a server that prints its port on its first line."""
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline().split()[0])
        finally:
            process.kill()


def run_benchmark_server(kind: str, folder: Path, series: int) -> AbstractContextManager[int]:
    """Run one of `benchmarks.measured_servers`."""
    return run_server(sys.executable, "-m", "benchmarks.measured_servers", kind, folder, str(series))


@contextmanager
def run_nginx(folder: Path) -> Iterator[int]:
    """Run nginx on one core with the page as files, plain and gzip."""
    program = find_program("nginx")
    assert program, "nginx is not installed"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "nginx.conf").write_text(NGINX_CONFIG.format(folder=folder, port=port))
    (folder / "metrics").write_bytes((folder / "page.txt").read_bytes())
    (folder / "metrics.gz").write_bytes((folder / "page.txt.gz").read_bytes())
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.log")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_listening(port)
            yield port
        finally:
            process.terminate()


def _wait_until_listening(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("nginx does not listen")


NGINX_CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; default_type text/plain; keepalive_requests 100000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; root {folder}; gzip_static on; }}
}}
"""
