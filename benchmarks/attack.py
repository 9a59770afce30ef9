"""`serve` under all attacks at once, within the limits of its unit: `python -m benchmarks.attack [--minutes 10]`.

    python -m benchmarks.attack [--minutes 10] [--counters 12000] [--program FOLDER]

`serve` shows a simulated town, with passwords: 12,000 counters are 20,000 series of history. It has what a unit grants: 1,024
descriptors; 64 tasks and 1 GiB as a control group, where this user may make one. Beside it a Prometheus, if one is installed,
scrapes and asks through remote read, and so does this program, each second, from an address of its own. From other addresses,
all at once, for so many minutes:

    heavy reads    64 queries of 64 negative matchers each; and as many series as one request may count
    hang-ups       fifty of these at a time, whose clients leave at once; and clients that leave in the middle of /metrics
    stalled reads  clients that accept nothing of a large response, and clients that accept little by little
    silence        1,100 sockets on which nothing is sent
    passwords      sixty connections with a wrong password each time
    no HTTP        two Host headers, no header's end, TLS
    other sites    POSTs to /-/reload and /-/visit as a browser sends them for another site's page

It prints what was measured, each with its limit, and ends with 1 if one is exceeded. Nothing else should run meanwhile.
`--program` names another copy of this repository, whose exporter is attacked instead.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import bcrypt

from benchmarks.cem_simulator import run_cem_simulator
from benchmarks.comparison_servers import find_program
from exporter.simulators.cem.simulation import CemSimulation
from tests.history import programs
from tests.history.remote_read_client import EQUAL, MAX_TIME, MIN_TIME, NOT_REGEXP, REGEXP, Matchers, build_request
from tests.test_process import PATIENCE, Program, launched

ROOT = Path(__file__).parent.parent
MAX_DESCRIPTORS, MAX_TASKS, MAX_MEMORY = 1024, 64, 1 << 30
MAX_SCRAPE_SECONDS, MAX_REFUSED_SECONDS, MAX_LOG_BYTES = 1.0, 5.0, 1_000_000
PAST_READINGS = 24
"""How many readings of each series lie before the first visit's."""
USERS = {"prometheus": "honest", "guest": "careless"}
"""Two who know a password: who attacks by reading must get as far as that."""
SILENT_SOCKETS = 1100
READERS, LEAVERS, STALLERS, GUESSER, SILENT = (f"127.0.0.{number}" for number in range(2, 7))
"""The attackers' addresses: each kind of attack has its own, so that they do not keep out each other more than the honest."""
EVERY_SERIES: Matchers = [(REGEXP, "__name__", "utility_.+")]


@dataclass
class Measurements:
    """What the honest clients saw, and what the exporter took."""

    scrapes: list[float] = field(default_factory=list)
    failed_scrapes: list[str] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    refused_reads: Counter[str] = field(default_factory=Counter)
    longest_refusal: float = 0.0
    prometheus: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=lambda: {"threads": 0, "descriptors": 0, "memory": 0})
    processes: set[int] = field(default_factory=set)
    log_bytes: int = 0
    stop_seconds: float = 0.0
    left_running: list[int] = field(default_factory=list)

    def list_results(self) -> list[tuple[str, str, bool]]:
        """Return what was measured, with its figure and whether it is within its limit."""
        slowest, slowest_read = max(self.scrapes, default=99.0), max(self.reads, default=99.0)
        rows = [
            ("slowest scrape, s", f"{slowest:.2f}", slowest <= MAX_SCRAPE_SECONDS),
            ("scrapes", f"{len(self.scrapes)}, median {statistics.median(self.scrapes or [0]):.3f} s", bool(self.scrapes)),
            ("scrapes that failed", f"{len(self.failed_scrapes)} {' '.join(self.failed_scrapes[:1])}", not self.failed_scrapes),
            ("honest reads", f"{len(self.reads)}, slowest {slowest_read:.2f} s", bool(self.reads)),
            ("honest reads refused", f"{self.refused_reads.total()} {dict(self.refused_reads) or ''}", True),
            ("longest an honest read was refused, s", f"{self.longest_refusal:.1f}", self.longest_refusal <= MAX_REFUSED_SECONDS),
            ("log, bytes", f"{self.log_bytes:,}", self.log_bytes < MAX_LOG_BYTES),
            ("memory of serve and its worker, MB", f"{self.peaks['memory'] / 1e6:.0f}", self.peaks["memory"] < MAX_MEMORY),
            ("threads of both", f"{self.peaks['threads']}", self.peaks["threads"] <= MAX_TASKS),
            ("descriptors of serve", f"{self.peaks['descriptors']}", self.peaks["descriptors"] < MAX_DESCRIPTORS),
            ("stopped by SIGTERM within, s", f"{self.stop_seconds:.1f}", self.stop_seconds < 10),
            ("processes left", f"{self.left_running or 0}", not self.left_running),
        ]
        if self.prometheus:
            slowest, fewest = self.prometheus["slowest"], self.prometheus["up"]
            rows.insert(1, ("slowest scrape as Prometheus has it, s", f"{slowest:.2f}", slowest <= MAX_SCRAPE_SECONDS))
            rows.insert(2, ("up as Prometheus has it, at least", f"{fewest:.0f}", fewest == 1))
            rows.insert(3, ("queries through Prometheus that failed", f"{self.prometheus['failed']:.0f}", True))
        return rows

    def watch_process(self, serve: int) -> None:
        """Note what `serve` and its children take now."""
        memory = threads = 0
        for process in (serve, *list_children(serve)):
            with suppress(OSError):
                status = dict(line.split(":\t") for line in Path(f"/proc/{process}/status").read_text().splitlines())
                memory += int(status["VmRSS"].split()[0]) * 1024 if "VmRSS" in status else 0
                threads += int(status["Threads"])
                self.processes.add(process)
                if process == serve:
                    self._note_peak("descriptors", len(os.listdir(f"/proc/{process}/fd")))
        self._note_peak("memory", memory)
        self._note_peak("threads", threads)

    def note_end(self, log_bytes: int) -> None:
        """Note what `serve` leaves: its log, and processes that still run."""
        self.log_bytes = log_bytes
        self.left_running = sorted(process for process in self.processes if Path(f"/proc/{process}").exists())
        for process in self.left_running:
            os.kill(process, signal.SIGKILL)

    def _note_peak(self, name: str, value: int) -> None:
        self.peaks[name] = max(self.peaks[name], value)


def list_children(process: int) -> list[int]:
    """Return the children of a process."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{process}/task"):
            with suppress(OSError):
                found += map(int, Path(f"/proc/{process}/task/{task}/children").read_text().split())
    return found


@contextmanager
def make_control_groups() -> Iterator[dict[str, Path]]:
    """Yield a control group with the unit's limit of tasks and of memory, where the system allows it."""
    groups: dict[str, Path] = {}
    limits = (
        ("pids", "pids.max", MAX_TASKS),
        ("memory", "memory.max", MAX_MEMORY),
        ("memory", "memory.limit_in_bytes", MAX_MEMORY),
    )
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name, file, limit in limits:
            parent = Path("/sys/fs/cgroup", name if controllers else "", path.lstrip("/"))
            group = parent / f"utility-exporter-attack-{os.getpid()}"
            if name in groups or name not in (controllers or "memory pids").split() or not (parent / "cgroup.procs").exists():
                continue
            with suppress(OSError):
                group.mkdir(exist_ok=True)
                (group / file).write_text(str(limit))
                groups[name] = group
    try:
        yield groups
    finally:
        for group in set(groups.values()):
            with suppress(OSError):
                group.rmdir()


@asynccontextmanager
async def run_exporter(folder: Path, program: Path, groups: dict[str, Path]) -> AsyncIterator[Program]:
    """Run `serve` within its limits."""
    enter = "".join(f"echo $$ > {group / 'cgroup.procs'}; " for group in set(groups.values()))
    limited = f'{enter}ulimit -n {MAX_DESCRIPTORS}; exec {sys.executable} -P -m exporter "$@"'
    environment = os.environ | {"PYTHONPATH": str(program)}
    flags = ("--web.config.file=web.yaml", "--web.enable-lifecycle")
    async with launched("serve", *flags, env=environment, folder=folder, program=("bash", "-c", limited, "bash")) as served:
        yield served


def write_configuration(folder: Path, portal_url: str) -> None:
    """Write the configurations of `serve`."""
    account = CemSimulation().build_accounts(portal_url)[0]
    users = {name: bcrypt.hashpw(password.encode(), bcrypt.gensalt(10)).decode() for name, password in USERS.items()}
    for name, content in (
        ("config.yaml", {"accounts": [account], "history": {"backfill": False}}),
        ("web.yaml", {"basic_auth_users": users}),
    ):
        (folder / name).write_text(json.dumps(content))
        (folder / name).chmod(0o600)


async def fill_ledger(folder: Path, program: Path) -> int:
    """Let `serve` make its first visit, and add earlier readings; return how many series there are."""
    async with run_exporter(folder, program, {}) as served, Client(served.url, "127.0.0.1") as client:
        while b"utility_up{" not in (await client.get("/metrics"))[1]:  # noqa: ASYNC110  # it happens in another process
            await asyncio.sleep(0.5)
        await served.stop()
    with closing(sqlite3.connect(folder / "data" / "ledger.sqlite")) as db, db:
        for number in range(1, PAST_READINGS + 1):
            db.execute(
                "INSERT OR IGNORE INTO reading"
                " SELECT series, at - ? * ifnull(span * 1000, 1800000), value - 0.001 * ?, span, visit FROM reading"
                " WHERE (series, at) IN (SELECT series, min(at) FROM reading WHERE at > ? GROUP BY series)",
                (number, number, to_ms_ago(30)),
            )
        (count,) = db.execute("SELECT count(*) FROM series").fetchone()
    return int(count)


def to_ms_ago(days: int) -> int:
    """Return the instant so many days ago, in milliseconds."""
    return int(time.time() - 86_400 * days) * 1000


class Client:
    """An HTTP client with an address of its own, and a password."""

    def __init__(self, url: str, address: str, user: str = "prometheus", password: str | None = None) -> None:
        self.url = url
        connector = aiohttp.TCPConnector(local_addr=(address, 0), limit=0)
        login = {"Authorization": aiohttp.encode_basic_auth(user, USERS[user] if password is None else password)}
        self.session = aiohttp.ClientSession(connector=connector, headers=login, timeout=aiohttp.ClientTimeout(total=60))

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and body of a page."""
        async with self.session.get(self.url + path) as response:
            return response.status, await response.read()

    async def read(self, body: bytes) -> tuple[int, bytes]:
        """Return the status and body of a remote read."""
        async with self.session.post(f"{self.url}/api/v1/read", data=body) as response:
            return response.status, await response.read()


# The honest clients.


async def scrape_repeatedly(client: Client, found: Measurements) -> None:
    """Scrape each second; until cancelled."""
    while True:
        started = time.monotonic()
        try:
            status, body = await client.get("/metrics")
        except (aiohttp.ClientError, TimeoutError) as error:
            found.failed_scrapes.append(type(error).__name__)
        else:
            if status == 200 and body.endswith(b"\n"):
                found.scrapes.append(time.monotonic() - started)
            else:
                found.failed_scrapes.append(str(status))
        await asyncio.sleep(1)


async def read_repeatedly(client: Client, found: Measurements) -> None:
    """Read a few series each second; until cancelled."""
    refused_since, body = None, build_request((to_ms_ago(3), MAX_TIME, [(EQUAL, "usage_point", "1"), *EVERY_SERIES]))
    while True:
        started = time.monotonic()
        try:
            status, _ = await client.read(body)
        except (aiohttp.ClientError, TimeoutError) as error:
            status = type(error).__name__
        now = time.monotonic()
        if status == 200:
            found.reads.append(now - started)
            refused_since = None
        else:
            found.refused_reads[str(status)] += 1
            refused_since = refused_since or started
            found.longest_refusal = max(found.longest_refusal, now - refused_since)
        await asyncio.sleep(1)


async def query_repeatedly(prometheus: programs.SeriesStore, found: Measurements) -> None:
    """Ask Prometheus what it gets by remote read, every few seconds; until cancelled."""
    found.prometheus |= {"failed": 0, "queries": 0}
    while True:
        try:
            found.prometheus["queries"] += 1
            await prometheus.query('count(last_over_time({__name__=~"utility_measured_.+",usage_point=~"1.*"}[3d]))', time.time())
        except AssertionError:
            found.prometheus["failed"] += 1
        await asyncio.sleep(5)


async def wait_for_scrapes(prometheus: programs.SeriesStore) -> None:
    """Wait until Prometheus has scraped twice: for the first page it makes tens of thousands of series."""
    while not await prometheus.query('count_over_time(up{job="utility"}[1h]) > 1', time.time()):  # noqa: ASYNC110  # as above
        await asyncio.sleep(1)


async def ask_prometheus(prometheus: programs.SeriesStore, found: Measurements, seconds: float) -> None:
    """Note what Prometheus says of its scrapes."""
    span = f"[{int(seconds)}s]"
    for name, query in (
        ("slowest", f'max_over_time(scrape_duration_seconds{{job="utility"}}{span})'),
        ("up", f'min_over_time(up{{job="utility"}}{span})'),
    ):
        answer = await prometheus.query(query, time.time())
        found.prometheus[name] = float(answer[0]["value"][1]) if answer else -1


def configure_prometheus(url: str) -> str:
    """Return a configuration of Prometheus that scrapes and reads."""
    login = {"username": "prometheus", "password": USERS["prometheus"]}
    return json.dumps(
        {
            "global": {"scrape_interval": "5s"},
            "scrape_configs": [
                {"job_name": "utility", "basic_auth": login, "static_configs": [{"targets": [url.removeprefix("http://")]}]}
            ],
            "remote_read": [{"url": f"{url}/api/v1/read", "read_recent": True, "basic_auth": login}],
        }
    )


# The attackers, in processes of their own.


class Attack:
    """All attacks on an exporter, with counts of what became of them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.outcomes: dict[str, Counter[str]] = {}
        self._reader, self._leaver = Client(url, READERS, "guest"), Client(url, LEAVERS, "guest")
        host, _, port = url.removeprefix("http://").partition(":")
        self._target = host, int(port)

    async def run(self, part: str, seconds: float) -> None:
        """Make a part of the attacks for so long."""
        heavy = [(NOT_REGEXP, "usage_point", f"x{number}.*") for number in range(64)]
        refused = build_request(*[(MIN_TIME, MAX_TIME, [*heavy[:-1], (NOT_REGEXP, "account", f"y{n}")]) for n in range(64)])
        costly = build_request(*[(MIN_TIME, MAX_TIME, EVERY_SERIES)] * 3)
        reads: list[tuple[str, int, Callable[[], Awaitable[str]]]] = [
            ("heavy reads", 8, lambda: self._read(self._reader, refused)),
            ("reads just allowed", 8, lambda: self._read(self._reader, costly)),
            ("reads left at once", 50, lambda: self._hang_up(refused, random.uniform(0, 0.2))),
            ("allowed reads left at once", 10, lambda: self._hang_up(costly, random.uniform(0, 1))),
            ("stalled reads", 8, lambda: self._stall(costly, 0)),
            ("slow reads", 8, lambda: self._stall(costly, 2048)),
        ]
        others: list[tuple[str, int, Callable[[], Awaitable[str]]]] = [
            ("silent sockets", SILENT_SOCKETS, self._be_silent),
            ("wrong passwords", 60, self._guess),
            ("no HTTP", 4, self._send_no_http),
            ("scrapes left halfway", 8, self._leave_halfway),
            ("calls from other sites", 4, self._call_from_elsewhere),
        ]
        tasks = [
            asyncio.create_task(self._repeat(name, act))
            for name, count, act in {"reads": reads, "others": others}[part]
            for _ in range(count)
        ]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._reader.session.close()
        await self._leaver.session.close()

    async def _repeat(self, name: str, act: Callable[[], Awaitable[str]]) -> None:
        outcomes = self.outcomes.setdefault(name, Counter())
        while True:
            try:
                outcome = await act()
            except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                outcome = type(error).__name__
            outcomes[outcome] += 1
            await asyncio.sleep(random.uniform(0.02, 0.2))

    async def _read(self, client: Client, body: bytes) -> str:
        return str((await client.read(body))[0])

    async def _hang_up(self, body: bytes, seconds: float) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._read(self._leaver, body)
        return "left"

    async def _stall(self, body: bytes, step: int) -> str:
        """Accept nothing of a response for ten seconds, or so many bytes each half second."""
        async with self._connect(STALLERS, receive_buffer=4096) as (reader, writer):
            login = aiohttp.encode_basic_auth("guest", USERS["guest"])
            head = f"POST /api/v1/read HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: {login}\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status = (await reader.readexactly(12))[9:].decode()
            transport = writer.transport
            assert isinstance(transport, asyncio.ReadTransport)
            if status == "200" and not step:
                transport.pause_reading()
                await asyncio.sleep(10)
                transport.resume_reading()
            async with asyncio.timeout(30):
                while await reader.read(step or 65536):  # noqa: ASYNC110  # a slow reader
                    await asyncio.sleep(0.5 if step else 0)
            return status

    async def _be_silent(self) -> str:
        async with self._connect(SILENT) as (reader, _):
            await reader.read(1)
        return "closed"

    async def _guess(self) -> str:
        async with Client(self.url, GUESSER, password=f"{random.random()}") as client:
            for _ in range(20):
                status, _ = await client.get("/metrics")
        return str(status)

    async def _send_no_http(self) -> str:
        text = random.choice(
            [
                b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                b"\x16\x03\x01\x00\xff" * 20,
                b"GET / HTTP/1.1\r\nA" + b"a" * 9000,
            ]
        )
        async with self._connect(SILENT) as (reader, writer):
            writer.write(text)
            async with asyncio.timeout(20):
                return (await reader.read(12)).decode(errors="replace")[9:] or "closed"

    async def _leave_halfway(self) -> str:
        async with self._leaver.session.get(f"{self.url}/metrics", headers={"Accept-Encoding": "identity"}) as response:
            await response.content.read(1000)
            response.close()
        return str(response.status)

    async def _call_from_elsewhere(self) -> str:
        path = random.choice(["/-/reload", "/-/visit?account=block-of-flats"])
        headers = random.choice([{"Origin": "http://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}])
        async with self._leaver.session.post(self.url + path, headers=headers) as response:
            return str(response.status)

    @asynccontextmanager
    async def _connect(
        self, address: str, receive_buffer: int = 0
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        one = socket.socket()
        if receive_buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        one.setblocking(False)
        try:
            one.bind((address, 0))
            await asyncio.get_running_loop().sock_connect(one, self._target)
        except OSError:
            one.close()
            raise
        reader, writer = await asyncio.open_connection(sock=one, limit=4096)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def attack(url: str, part: str, seconds: float) -> None:
    """Make a part of the attacks, and print the counts."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    attackers = Attack(url)
    await attackers.run(part, seconds)
    for name, outcomes in attackers.outcomes.items():
        sys.stdout.write(f"  {name}: {', '.join(f'{count} x {outcome}' for outcome, count in outcomes.most_common(6))}\n")


# The trial.


async def measure(served: Program, seconds: float, folder: Path) -> Measurements:
    """Attack `serve`, and measure."""
    found = Measurements()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(served.url, "127.0.0.1"))
        repeated = [scrape_repeatedly(client, found), read_repeatedly(client, found)]
        prometheus = None
        if find_program("prometheus"):
            session = await stack.enter_async_context(aiohttp.ClientSession())
            prometheus = await stack.enter_async_context(
                programs.run_prometheus(session, folder / "prometheus", configure_prometheus(served.url))
            )
            repeated.append(query_repeatedly(prometheus, found))
            await wait_for_scrapes(prometheus)
        tasks, log_start = [asyncio.create_task(one) for one in repeated], sum(map(len, served.lines))
        command = ("nice", sys.executable, "-m", "benchmarks.attack", "--minutes", str(seconds / 60), "--against", served.url)
        attackers = [await asyncio.create_subprocess_exec(*command, part, cwd=ROOT) for part in ("reads", "others")]
        ending = asyncio.gather(*(one.wait() for one in attackers))
        try:
            while not ending.done():
                found.watch_process(served.process.pid)
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(ending), 0.25)
                for task in (task for task in tasks if task.done()):
                    task.result()
        finally:
            for one in attackers:
                with suppress(ProcessLookupError):
                    one.kill()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if prometheus:
            await ask_prometheus(prometheus, found, seconds)
        # The worker is busy when the end comes.
        last = asyncio.create_task(client.read(build_request(*[(MIN_TIME, MAX_TIME, EVERY_SERIES)] * 3)))
        await asyncio.sleep(0.5)
        found.watch_process(served.process.pid)
        found.stop_seconds = await stop(served)
        await asyncio.gather(last, return_exceptions=True)
    found.note_end(sum(map(len, served.lines)) - log_start)
    return found


async def stop(served: Program) -> float:
    """Stop `serve` by SIGTERM; return how many seconds it took."""
    try:
        return await served.stop(signal.SIGTERM)
    except TimeoutError:
        return PATIENCE


async def try_exporter(seconds: float, counters: int, program: Path) -> bool:
    """Run the trial and print its results; return whether all are within their limits."""
    with run_cem_simulator(counters) as portal, tempfile.TemporaryDirectory() as name, make_control_groups() as groups:
        folder = Path(name)
        write_configuration(folder, portal.url)
        series = await fill_ledger(folder, program)
        for what in ("pids", "memory"):
            if what not in groups:
                sys.stdout.write(f"no control group for {what}: counted only\n")
        async with run_exporter(folder, program, groups) as served:
            async with Client(served.url, "127.0.0.1") as client:
                while (await client.get("/-/ready"))[0] != 200:  # noqa: ASYNC110  # it happens in another process
                    await asyncio.sleep(0.2)
                size = len((await client.get("/metrics"))[1])
            sys.stdout.write(f"{series:,} series of history, a page of {size / 1e6:.1f} MB, {seconds / 60:g} minutes\nattacks:\n")
            sys.stdout.flush()
            found = await measure(served, seconds, folder)
        kinds = Counter(line.partition(" msg=")[2][:60] for line in served.lines)
    rows = found.list_results()
    sys.stdout.write("".join(f"{what:45} {figure:40} {'' if good else 'EXCEEDED'}\n" for what, figure, good in rows))
    sys.stdout.write("log: " + "; ".join(f"{count} x {text.strip()}" for text, count in kinds.most_common(12)) + "\n")
    return all(good for _, _, good in rows)


def main() -> int:
    """Run the trial, or the attackers' part of it."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--minutes", type=float, default=10)
    flags.add_argument("--counters", type=int, default=12_000)
    flags.add_argument("--program", type=Path, default=ROOT, metavar="FOLDER")
    flags.add_argument("--against", nargs=2, help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.against:
        asyncio.run(attack(*options.against, options.minutes * 60))
        return 0
    return 0 if asyncio.run(try_exporter(options.minutes * 60, options.counters, options.program.absolute())) else 1


if __name__ == "__main__":
    sys.exit(main())
