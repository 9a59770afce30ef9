"""Export: the samples written are those that the portals reported, and other programs accept them."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.cli import main
from exporter.commands.history import show_progress
from exporter.config import loader
from exporter.errors import ExporterError, LedgerError
from exporter.history import export as module
from exporter.history.export import ExportSelection, export_series
from exporter.ledger.samples import ROWS_PER_FETCH
from exporter.simulators.cem.simulation import CemSimulation
from tests.history import programs
from tests.history.sample_history import (
    BRUSSELS,
    NOW,
    PARIS,
    SPRING,
    ExpectedSamples,
    SampleHistory,
    add_late_and_corrected,
    local_instant,
)
from tests.scripted_portal import ScriptedPortal

AT = NOW.timestamp()
DAY = timedelta(days=1)
ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "history.md")


def export_samples(sample_history: SampleHistory, folder: Path, part: ExportSelection | None = None) -> ExpectedSamples:
    """Export, and read it back with prometheus_client's parser."""
    file, found = folder / "history.om", ExpectedSamples()
    export_series(sample_history.ledger, {}, part or ExportSelection(), NOW, file)
    for family in text_string_to_metric_families(file.read_text()):
        for sample in family.samples:
            labels = frozenset((sample.labels | {"__name__": sample.name}).items())
            found.setdefault(labels, {})[round(float(sample.timestamp) * 1000)] = sample.value
    return found


def filter_samples(expected: ExpectedSamples, keep: Callable[[dict[str, str], datetime], bool]) -> ExpectedSamples:
    """Return the part of the samples that `keep` accepts by labels and stamp."""
    parts = {
        labels: {at: value for at, value in samples.items() if keep(dict(labels), to_datetime(at))}
        for labels, samples in expected.items()
    }
    return {labels: samples for labels, samples in parts.items() if samples}


def to_datetime(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, PARIS)


def test_everything_comes_back(sample_history, tmp_path: Path):
    """
    A parser reads from the file what the portals reported, late days and corrections included.
    """
    add_late_and_corrected(sample_history)

    assert export_samples(sample_history, tmp_path) == sample_history.all_samples


def test_a_span_of_local_days(sample_history, tmp_path: Path):
    """
    `--from` and `--to` mean local days: an interval belongs to the day it starts, a gas day to the one whose 06:00 begins it.
    """
    first, last = SPRING - DAY, SPRING
    start, end = local_instant(PARIS, first), local_instant(PARIS, last + DAY)

    def meant(labels: dict[str, str], at: datetime) -> bool:
        if labels.get("resolution") == "P1D" and "interval" in labels["__name__"]:
            gas = labels["register"] == "volume"
            return local_instant(BRUSSELS, first, 6 * gas) < at < local_instant(BRUSSELS, last + DAY, 6 * gas)
        length = {"PT15M": 15, "PT30M": 30, "PT1H": 60}.get(labels.get("resolution", ""), 0)
        begin = at + timedelta(milliseconds=1 if length else 0) - timedelta(minutes=length)
        return start <= begin < end

    assert export_samples(sample_history, tmp_path, ExportSelection(None, first, last)) == filter_samples(
        sample_history.all_samples, meant
    )


def test_one_account(sample_history, tmp_path: Path):
    """
    `--account` means that account only, and one that the ledger does not know is output to be none.
    """

    assert export_samples(sample_history, tmp_path, ExportSelection("home")) == filter_samples(
        sample_history.all_samples, lambda labels, _: labels["account"] == "home"
    )
    with pytest.raises(LedgerError, match="no account 'nobody'; it has flats, home, maison"):
        export_samples(sample_history, tmp_path, ExportSelection("nobody"))


def test_it_is_written_slice_by_slice(sample_history):
    """
    No part of the text is longer than a slice of samples, however long the series.
    """
    with sample_history.ledger.snapshot() as snapshot:
        spans = {
            series: module._find_time_range(snapshot, series, ExportSelection(), 1 << 42)
            for series in module._select_series(snapshot, {}, ExportSelection())
        }
        parts = list(module.format_openmetrics(snapshot, spans, lambda _: None))

    assert max(part.count("\n") for part in parts) <= ROWS_PER_FETCH
    assert len(parts) > len(spans)


def test_the_last_day_of_all(sample_history, tmp_path: Path):
    """
    The end of the calendar is as good as no end.
    """

    assert export_samples(sample_history, tmp_path, ExportSelection(last_day=date.max)) == sample_history.all_samples


def test_whole_or_not_at_all(sample_history, tmp_path: Path, monkeypatch):
    """
    An export that fails leaves the file that was there, and nothing else.
    """
    file = tmp_path / "out" / "history.om"
    file.parent.mkdir()
    file.write_text("before")

    def broken(*_):
        yield "utility"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "format_openmetrics", broken)
    with pytest.raises(ExporterError, match="cannot be written: No space left"):
        export_series(sample_history.ledger, {}, ExportSelection(), NOW, file)
    assert file.read_text() == "before"
    assert os.listdir(file.parent) == ["history.om"]


@pytest.fixture
def command(sample_history, tmp_path: Path, monkeypatch):
    """Make the words that export to a file, run as a person does."""
    source = tmp_path / "data"
    entry = CemSimulation().build_accounts("http://127.0.0.1:1")[0]
    (tmp_path / "config.yaml").write_text(json.dumps({"accounts": [entry]}))
    (tmp_path / "config.yaml").chmod(0o600)
    flags = [f"--config.file={tmp_path / 'config.yaml'}", f"--storage.path={source}"]
    return lambda *more: [sys.executable, "-m", "exporter", "history", "export", *flags, *map(str, more)]


def text_of(sample_history: SampleHistory, folder: Path) -> str:
    """Export plainly, and give the text; the sizes of the other ways are those of this one."""
    export_series(sample_history.ledger, {}, ExportSelection(), datetime.now(UTC), folder / "plain.om")
    return (folder / "plain.om").read_text()


def outcome(words: list[str], **more: Any) -> str:
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=60, check=False, cwd=ROOT, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_by_its_name(sample_history, command, tmp_path: Path, name):
    """
    `-o /dev/stdout` goes where standard output goes, a pipe or a file that something stands in already, and replaces neither.
    """
    meant, file = text_of(sample_history, tmp_path), tmp_path / "out.txt"
    file.write_text("before\n")
    with file.open("a") as out:
        outcome(command("-o", name), stdout=out)

    assert outcome(command("-o", name), stdout=subprocess.PIPE) == meant
    assert file.read_text() == "before\n" + meant


def test_what_is_no_regular_file_is_written_to(sample_history, command, tmp_path: Path):
    """
    A FIFO is read by whoever waits at its end and stays a FIFO, the null device swallows; a folder is an error.
    """
    fifo, null = tmp_path / "fifo", os.stat(os.devnull)
    os.mkfifo(fifo)
    with (tmp_path / "read.om").open("w") as read, subprocess.Popen(["cat", fifo], stdout=read) as reader:
        try:
            outcome(command("-o", fifo))
            reader.wait(timeout=60)
        finally:
            reader.kill()
    outcome(command("-o", os.devnull))

    assert (tmp_path / "read.om").read_text() == text_of(sample_history, tmp_path)
    assert fifo.is_fifo()
    assert os.path.samestat(os.stat(os.devnull), null)
    with pytest.raises(ExporterError, match="Is a directory"):
        export_series(sample_history.ledger, {}, ExportSelection(), NOW, tmp_path)


@pytest.mark.parametrize("dangling", [False, True])
def test_a_symlink_is_followed(sample_history, tmp_path: Path, dangling):
    """
    The file that a symlink names is written, in its folder; the link stays one.
    """
    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    link, target = tmp_path / "near" / "history.om", tmp_path / "far" / "real.om"
    link.symlink_to("../far/real.om")
    if not dangling:
        target.write_text("before")
    export_series(sample_history.ledger, {}, ExportSelection(), NOW, link)

    assert link.is_symlink()
    assert target.read_text().endswith("# EOF\n")
    assert os.listdir(tmp_path / "near") + os.listdir(tmp_path / "far") == ["history.om", "real.om"]


def test_only_its_owner_may_read_it(sample_history, tmp_path: Path):
    """
    What is written is nobody else's, whatever the umask and whatever stood there.
    """
    file = tmp_path / "history.om"
    file.write_text("before")
    file.chmod(0o644)
    export_series(sample_history.ledger, {}, ExportSelection(), NOW, file)

    assert file.stat().st_mode & 0o777 == 0o600


HALF = """
import sys
from pathlib import Path
from exporter.history.export import _open_output
with _open_output(Path(sys.argv[1])) as out:
    out.write(b"half")
    out.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


def test_a_killed_export_leaves_nothing_for_long(sample_history, tmp_path: Path):
    """
    What a killed export has left is removed by the next one to the same file; what another one is still writing is not, and
    both come to their end.
    """
    file = tmp_path / "out" / "history[1].om"
    file.parent.mkdir()
    halves = [
        subprocess.Popen([sys.executable, "-c", HALF, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(3)
    ]
    assert [half.stdout.readline() for half in halves] == ["written\n"] * 3
    assert len(os.listdir(file.parent)) == 3
    for half, number in zip(halves[:2], (signal.SIGKILL, signal.SIGTERM), strict=True):
        half.send_signal(number)
        half.communicate(timeout=60)
    assert len(os.listdir(file.parent)) == 3
    export_series(sample_history.ledger, {}, ExportSelection(), NOW, file)
    assert len(os.listdir(file.parent)) == 2
    assert file.read_text().endswith("# EOF\n")
    halves[2].communicate("", timeout=60)

    assert os.listdir(file.parent) == [file.name]
    assert file.read_text() == "half"


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_the_ledger_is_not_written_over(sample_history, tmp_path: Path, end):
    """
    A name that is the ledger's own is refused.
    """
    (tmp_path / "link").symlink_to(f"{sample_history.ledger.database.path}{end}")
    with pytest.raises(ExporterError, match="is the ledger itself"):
        export_series(sample_history.ledger, {}, ExportSelection(), NOW, tmp_path / "link")


def test_a_long_name(sample_history, tmp_path: Path):
    """
    A name as long as names may be is written, too.
    """
    export_series(sample_history.ledger, {}, ExportSelection(), NOW, tmp_path / ("\u00e9" * 127))

    assert (tmp_path / ("\u00e9" * 127)).read_text().endswith("# EOF\n")


def test_progress_without_a_terminal(capsys):
    """
    Where there is no terminal, plain lines say how far it is, and no more than a few.
    """
    with show_progress("exporting", 1000, "samples") as advance:
        for _ in range(1000):
            advance(1)

    output = capsys.readouterr().err.splitlines()
    assert (len(output), output[0], output[-1]) == (11, "exporting: 1000 samples", "exporting: 1000 of 1000 samples")


def test_the_command(sample_history, tmp_path: Path, capsys, monkeypatch):
    """
    The command writes a file, of one account or all, with the aliases of the configuration, and does not take any folder for a
    ledger.
    """
    monkeypatch.setattr(loader, "load_portals", lambda *_: {"brook": ScriptedPortal})
    file = programs.write_file(tmp_path / "config.yaml", CONFIG)
    flags = [f"--config.file={file}", f"--storage.path={tmp_path / 'data'}"]
    assert main(["history", "export", *flags, "--account", "maison", "-o", str(tmp_path / "a.om")]) == 0
    assert main(["history", "export", *flags, "-o", str(tmp_path / "all.om")]) == 0
    assert main(["history", "export", *flags[:1], f"--storage.path={tmp_path / 'no'}"]) == 1
    output = capsys.readouterr().err
    text = (tmp_path / "a.om").read_text()

    assert 'usage_point="our house"' in text
    assert 'account="home"' not in text
    assert 'account="home"' in (tmp_path / "all.om").read_text()
    assert text.endswith("\n# EOF\n")
    assert "holds no ledger" in output
    assert f"a.om: {text.count(chr(10)) - text.count('# ')} samples" in output


CONFIG = """
accounts:
- {name: maison, portal: brook, aliases: {"01234567890123": our house}}
- {name: home, portal: brook}
"""


def find_commands(beginning: str) -> list[list[str]]:
    """Find the commands that begin so, which are the same wherever they stand."""
    found = [
        [shlex.split(line, comments=True) for line in document.read_text().splitlines() if line.startswith(beginning)]
        for document in DOCUMENTS
    ]
    assert found[0], f"the documentation has no command {beginning}"
    assert all(there == found[0] for there in found)
    return found[0]


def run_documented(command: list[str], folder: Path, **places: str) -> str:
    """Run a command of the documentation in a folder, with the test's addresses in the place of the usual ones."""
    words = [re.sub("|".join(map(re.escape, places)) or "$^", lambda match: places[match[0]], word) for word in command]
    done = subprocess.run(
        [programs.find_program(words[0]), *words[1:]], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


async def test_blocks_for_prometheus(sample_history, client, tmp_path: Path):
    """
    The documented command makes blocks without a complaint, and a Prometheus started on them has the expected.
    """
    add_late_and_corrected(sample_history)
    export_series(sample_history.ledger, {}, ExportSelection(), NOW, tmp_path / "history.om")
    (command,) = find_commands("promtool tsdb create-blocks-from openmetrics")
    (tmp_path / "p").mkdir()
    output = run_documented(command, tmp_path, **{"/var/lib/prometheus/metrics2": str(tmp_path / "p" / "tsdb")})
    async with programs.run_prometheus(client, tmp_path / "p") as prometheus:
        found = await prometheus.query_samples('{__name__=~"utility_.+"}', AT)

    assert not re.search("(?i)error|warn|out of order", output)
    assert found == sample_history.all_samples


async def test_import_into_victoria_metrics(sample_history, client, tmp_path: Path):
    """
    The documented command brings the truth into VictoriaMetrics.
    """
    add_late_and_corrected(sample_history)
    export_series(sample_history.ledger, {}, ExportSelection(), NOW, tmp_path / "history.om")
    (command,) = find_commands("curl --fail")
    async with programs.run_victoria_metrics(client, tmp_path / "vm") as victoria:
        run_documented(command, tmp_path, **{"http://localhost:8428": victoria.url})
        found = await victoria.export_samples('{__name__=~"utility_.+"}')

    assert found == sample_history.all_samples


def test_a_pipe_that_nobody_reads_is_given_up(sample_history, monkeypatch):
    """
    A reader that stands still holds the ledger's log open no longer than a deadline; one that reads gets everything.
    """
    monkeypatch.setattr(module, "MAX_STALL_SECONDS", 0.2)
    monkeypatch.setattr(module, "format_openmetrics", lambda *_: iter(["x" * 1_000_000]))
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb") as stalled:
        monkeypatch.setattr(sys, "stdout", stalled_stdout(stalled))
        with pytest.raises(ExporterError, match=r"reader stalled for 0\.2 s"):
            export_series(sample_history.ledger, {}, ExportSelection(), NOW, None)
    source = "import sys; sys.stdout.write(str(len(sys.stdin.read())))"
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        monkeypatch.setattr(sys, "stdout", stalled_stdout(other.stdin.buffer))
        export_series(sample_history.ledger, {}, ExportSelection(), NOW, None)
        other.stdin.close()
        assert other.stdout.read() == "1000000"


def stalled_stdout(binary) -> SimpleNamespace:
    return SimpleNamespace(buffer=binary, fileno=binary.fileno)
