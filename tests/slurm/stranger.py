"""Another user of the machine who knows the address: `python stranger.py UID ADDRESS FILE...`.

Everything is imported before the rights are dropped, so that what is refused is the sweep and not
Python. Prints JSON: what came of each attempt, `got in` or the name of the error. With uid 0 it is
the owner, which shows that the attempts would succeed.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import ray
from ray._raylet import GcsClient

TIMEOUT_S = 10


def attempt(action: Callable[[], object]) -> str:
    try:
        action()
    except Exception as error:  # noqa: BLE001 - whatever refuses
        return type(error).__name__
    return "got in"


def main(uid: int, address: str, paths: list[Path]) -> dict[str, str]:
    if uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    tried = {f"read {path}": attempt(lambda p=path: look(p)) for path in paths}
    tried["ask for nodes"] = attempt(lambda: nodes(address))
    if uid:
        host = address.rpartition(":")[0]
        tried["connect"] = attempt(
            lambda: ray.init(
                address=address, _node_ip_address=host, log_to_driver=False, logging_level="error"
            )
        )
    return tried


def look(path: Path) -> object:
    return list(path.iterdir()) if path.is_dir() else path.read_bytes()


def nodes(address: str) -> None:
    if not GcsClient(address=address).get_all_node_info(timeout=TIMEOUT_S):
        raise LookupError("no nodes")


if __name__ == "__main__":
    found = main(int(sys.argv[1]), sys.argv[2], [Path(name) for name in sys.argv[3:]])
    sys.stdout.write("\n" + json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # what Ray left half open would wait
