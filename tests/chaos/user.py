"""What the harness does as a user would: sweep commands, by their words and their JSON."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND_S = 180
TRAINING_S = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody on the login node.

    Args:
        results: the folder of all sweeps.
        name: the sweep.
        log: where every command and what it said are kept.
    """

    results: Path
    name: str
    log: Path

    def sweep(self, *words: str, limit_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """Run one command of `sweep`; its exit code is the caller's to judge."""
        command = [str(Path(sys.executable).with_name("sweep")), *words]
        command += ["--results", str(self.results)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL
        )
        with self.log.open("a") as file:
            said = (done.stdout + done.stderr).strip()
            shown = said if words[0] != "status" or done.returncode > 1 else said[:300]
            file.write(f"$ sweep {' '.join(words)}  -> {done.returncode}\n{shown}\n")
        return done

    def status(self, *words: str) -> dict[str, Any]:
        """Ask how far the sweep is; empty where the answer is an error."""
        done = self.sweep("status", self.name, "--json", *words)
        try:
            value: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            return {}
        return {} if "error" in value else value

    def resume(self, *retry: str) -> subprocess.CompletedProcess[str]:
        """Train what is missing."""
        again = [word for name in retry for word in ("--retry", name)]
        return self.sweep("resume", self.name, "--yes", "--quiet", *again)
