"""Remote write as a process does it: from the configuration to the receiver, over a restart, and `history resend`."""

import json

from tests.history.remote_write_receiver import StrictReceiver, run_receiver
from tests.test_process import Home, home  # noqa: F401  # a fixture


async def test_serve_delivers(home: Home):  # noqa: F811  # the fixture
    """
    What `serve` has learned goes to the receiver that the configuration names, once; `history resend` sends it again.
    """
    strict = StrictReceiver(home.portal.clock)
    async with home.serve() as program:
        await program.until('utility_up{account="block-of-flats",portal="cem"} 1')
        await program.stop()
    async with run_receiver(strict) as url:
        file = home.folder / "config.yaml"
        receiver = {"url": url, "name": "store", "headers": {"X-Key": "planted"}}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"history": {"remote_write": [receiver]}}))
        counts = []
        for resend in (False, False, True):
            if resend:
                code, out, _ = await home.command("history", "resend", "store", "--from", "2000-01-01")
                assert (code, out) == (0, "store: sent again from 2000-01-01 on\n")
            async with home.serve() as program:
                if resend or not counts:
                    await program.until('utility_exporter_remote_write_up{target="store"} 1')
                await program.until('utility_exporter_remote_write_lag_seconds{target="store"} 0.0\n')
                await program.stop()
            counts.append(sum(map(len, strict.requests)))
        code, _, err = await home.command("history", "resend", "stoer")

    assert counts[0] > 10
    assert counts[1] == counts[0] == strict.count_samples
    assert counts[2] == 2 * counts[0]
    assert (code, err) == (1, "history.remote_write has no target 'stoer'; it has store\n")
    assert {headers["X-Key"] for headers in strict.headers} == {"planted"}
    assert "planted" not in "".join(program.lines)
