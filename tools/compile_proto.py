"""Compile python/sphereface/proto/caffe.proto to caffe.desc, a serialised FileDescriptorSet.

Needs ``pip install grpcio-tools`` (it bundles protoc); using the result needs protobuf only.

    python tools/compile_proto.py            write caffe.desc
    python tools/compile_proto.py --check    exit with 1 if caffe.desc is out of date
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

FOLDER = Path(__file__).resolve().parents[1] / "python" / "sphereface" / "proto"


def compiled(proto: Path) -> bytes:
    """Return the FileDescriptorSet that protoc makes of `proto`."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.desc"
        arguments = ["protoc", f"-I{proto.parent}", f"--descriptor_set_out={target}", proto.name]
        if protoc.main(arguments) != 0:
            raise SystemExit(f"{proto}: protoc failed")
        return target.read_bytes()


def main() -> int:
    """Run the command; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    target = FOLDER / "caffe.desc"
    data = compiled(FOLDER / "caffe.proto")
    if not arguments.check:
        target.write_bytes(data)
        print(f"{target}: {len(data)} bytes")
    elif data != target.read_bytes():
        print(f"{target} is out of date; run python tools/compile_proto.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
