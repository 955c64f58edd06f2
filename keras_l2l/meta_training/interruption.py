"""SIGTERM and Ctrl-C, which wait for the end of a meta-step."""

import signal
import threading


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop, and has saved its work.

    Args:
        message: String.
        signal_number: Int, such as `signal.SIGTERM`.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class Interruption:
    """Context in which SIGTERM and Ctrl-C are only noted, the first time.

    The second time they do what they always do. Outside the main thread,
    where Python receives no signals, nothing changes.

    Attributes:
        signal_number: Int, or `None` while nothing was received.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self):
        self.signal_number = None
        self._handlers = {}
        if threading.current_thread() is threading.main_thread():
            self._handlers = {
                number: signal.signal(number, self._note)
                for number in self._SIGNALS
                # A process in the background may have to ignore Ctrl-C; None
                # is a handler that is not Python's.
                if signal.getsignal(number) not in (signal.SIG_IGN, None)
            }
        return self

    def __exit__(self, *exception):
        self._restore()

    def _note(self, number, frame):
        self.signal_number = number
        self._restore()

    def _restore(self):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
