"""A supervisor's beats in a thread, and beside it one that turns signals into an orderly end."""

import contextlib
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from typing import Self

from cluster.errors import ClusterError
from orchestrator.errors import SweepError
from orchestrator.supervisor import Supervisor

log = logging.getLogger(__name__)

BEAT_S = 5.0
TICK_S = 0.25
"""How often it is asked whether the process must leave without a signal."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Watch:
    """Runs a supervisor's beats while the process does something else, and sees its signals.

    An orderly end waits neither for a beat that SLURM keeps waiting nor for a main thread that is
    deep inside Ray: SLURM kills soon after its signal, which may have ended Ray's processes, too.
    Without `leave` a signal interrupts the process at once.

    Args:
        supervisor: what to run.
        leave: called in a thread with why the process must leave, from when on no beat begins;
            returns whether the process must be interrupted then, or ends by itself.
        asked: tells why the process must leave though no signal came; empty while it need not.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        leave: Callable[[str], bool] | None = None,
        asked: Callable[[], str] | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._leave = leave
        self._asked = asked
        self._over = threading.Event()
        self._heard, self._hears = os.pipe()
        os.set_blocking(self._hears, False)
        self._before = -1
        self._interrupted = False
        self._beats = threading.Thread(target=self._beat, name="supervisor", daemon=True)
        self._lookout = threading.Thread(target=self._look_out, name="lookout", daemon=True)

    def __enter__(self) -> Self:
        """Take the signals over, from Ray and submitit, and begin."""
        for number in SIGNALS:
            signal.signal(number, self._ask)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._before = signal.set_wakeup_fd(self._hears, warn_on_full_buffer=False)
        with contextlib.ExitStack() as stack:
            stack.push(self)  # a first beat that breaks at once interrupts this
            self._lookout.start()
            self._beats.start()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End; first an orderly end and then a beat that have begun are awaited."""
        self._over.set()
        with contextlib.ExitStack() as stack:  # from the last line up, whatever interrupts one
            stack.callback(self._hear_no_more)
            if self._beats.ident:
                stack.callback(self._beats.join)
            if self._lookout.ident:
                stack.callback(self._lookout.join)

    def _hear_no_more(self) -> None:
        signal.set_wakeup_fd(self._before)
        if not self._lookout.is_alive():
            os.close(self._heard)
            os.close(self._hears)

    def _ask(self, number: int, _frame: object) -> None:
        if not self._interrupted and (self._leave is None or not self._lookout.is_alive()):
            raise KeyboardInterrupt(number)

    def _look_out(self) -> None:
        over = False
        while self._leave and not over:
            over = self._over.is_set()
            reason = self._signal() or ("" if over else self._reason())
            if not reason or (over and reason != "signal SIGTERM"):
                continue
            over = True
            self._over.set()
            interrupt = True  # also where Ray is gone already
            try:
                interrupt = self._leave(reason)
            finally:
                if interrupt:
                    self._interrupted = True  # not once more by the handler of the same signal
                    os.kill(os.getpid(), signal.SIGINT)

    def _signal(self) -> str:
        """Wait a moment for a signal; a handler would have to wait for the main thread."""
        heard = select.select([self._heard], [], [], TICK_S)[0]
        numbers = os.read(self._heard, 64) if heard else b""
        names = [f"signal {each.name}" for each in SIGNALS if each in numbers]
        return names[0] if names else ""

    def _reason(self) -> str:
        try:
            return self._asked() if self._asked else ""
        except OSError as error:  # a full disk, for example: asked again soon
            log.warning("lookout: %s", error)
            return ""

    def _beat(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            whole = False
            try:
                self._supervisor.beat(time.monotonic())
                whole = True
            except (ClusterError, SweepError, OSError) as error:
                log.warning("supervisor: %s", error)
                whole = True
            finally:
                # Nobody would look after the pilots: rather no driver at all.
                if not (whole or self._over.is_set()):
                    os.kill(os.getpid(), signal.SIGINT)
            due = time.monotonic() + BEAT_S
