"""Child processes, and a process that kills itself at a change of the file system."""

import os
import signal


class Killer:
    """An audit hook that kills its own process before the n-th change of the file system, whatever makes it."""

    def __init__(self, left):
        self.left = left

    def __call__(self, event, arguments):
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def in_a_child(work):
    """The exit status of a forked process that does the work."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
