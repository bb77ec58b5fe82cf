"""The generated code beside the .proto files is what protoc makes of them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def test_generated_code_is_current(tmp_path: Path) -> None:
    """If not: ``make proto``."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto"))
    outputs = ("--python_out", "--grpc_python_out", "--mypy_out", "--mypy_grpc_out")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", *(f"{one}={tmp_path}" for one in outputs)]
    # protoc looks for the plugins of mypy-protobuf on PATH; they are installed beside this Python.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run([*command, *sources], cwd=ROOT, env=environment, check=True, capture_output=True, timeout=60)
    assert generated(ROOT / "protos", ROOT) == generated(tmp_path, tmp_path)


def generated(directory: Path, root: Path) -> dict[str, str]:
    """Return the text of each generated file under a directory."""
    files = (path for path in directory.rglob("*_pb2*") if path.suffix in {".py", ".pyi"})
    return {str(path.relative_to(root)): path.read_text() for path in files}
