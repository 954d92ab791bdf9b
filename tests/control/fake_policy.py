"""``python -m tests.control.fake_policy``: a policy's program that does what its import path says."""

import base64
import json
import os
import sys
import time

from fairlead.v1 import control_pb2


def main():
    settings, _ = (base64.b64decode(part) for part in sys.stdin.buffer.readline().split(b" "))
    kind = control_pb2.AutoscalingSettings.FromString(settings).policy_import_path
    for count, line in enumerate(sys.stdin.buffer, start=1):
        if kind == "hang":
            time.sleep(3600)
        elif kind == "crash":
            os._exit(3)
        elif kind == "lie":
            print("not what was asked", flush=True)
        elif kind == "fail":
            print(json.dumps({"error": "ZeroDivisionError"}), flush=True)
        else:
            asked = json.loads(line)
            print(
                json.dumps(
                    {"replicas": {name: each["total_num_requests"] + count for name, each in asked["contexts"].items()}}
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
