"""The generated messages of remote read and write."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTO = Path("exporter/history/remote.proto")


def test_the_classes_are_what_the_definition_gives(tmp_path: Path):
    """
    The committed module and its types are what `make protobuf` makes of remote.proto.
    """
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", PROTO]
    subprocess.run(command, check=True, cwd=ROOT)

    for suffix in ("_pb2.py", "_pb2.pyi"):
        name = str(PROTO).replace(".proto", suffix)
        assert (tmp_path / name).read_text() == (ROOT / name).read_text(), "run make protobuf"
