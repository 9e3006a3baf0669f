"""What takes turns in a comparison: moat, a process per turn, and PyTorch, a process that stays."""

import json
import os
import queue
import signal
import statistics
import subprocess
import tempfile
import threading
import time


class Failed(Exception):
    pass


def last_line(text, otherwise):
    return (text.strip().splitlines() or [otherwise])[-1].strip()


class Side:
    """A program at one case, which takes turns until it fails; `runs` has what every turn gave."""

    def __init__(self, name, command, limit):
        self.name, self.command = name, [str(word) for word in command]
        self.limit = limit  # seconds until it is ready, and of a turn
        self.runs, self.failure = [], None

    def attempt(self, step):
        """Runs the step unless one failed before."""
        if self.failure is None:
            try:
                step()
            except Failed as failed:
                self.failure = str(failed)
            except OSError as error:
                self.failure = error.strerror or str(error)
            if self.failure:
                self.close()

    def take_turn(self):
        self.attempt(lambda: self.runs.append(self.read(self.measure())))

    def read(self, text):
        try:
            measured = json.loads(text)
            return {key: measured[key] for key in ("seconds", "images")} | measured
        except (ValueError, KeyError, TypeError) as error:
            raise Failed(f"its output could not be read: {error}") from error

    def close(self):
        pass

    def seconds(self):
        return [run["seconds"] for run in self.runs]

    def median(self):
        return statistics.median(self.seconds())

    def peak_bytes(self):
        """Of the GPU, where the case ran on one, else of the process."""
        return max(run.get("peak_gpu_bytes") or run["peak_rss_bytes"] for run in self.runs)


class ProcessPerTurn(Side):
    def measure(self):
        try:
            done = subprocess.run(self.command, capture_output=True, text=True, timeout=self.limit,
                                  stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"not done in {self.limit:g} s") from error
        if done.returncode != 0:
            raise Failed(last_line(done.stderr, f"exit {done.returncode}"))
        return done.stdout


class StandingProcess(Side):
    """Says "compiled" once it has run, "ready" after a line of ours, and what it measured after each
    further one."""

    process = None

    def start(self):
        self.attempt(self.launch)

    def launch(self):
        self.deadline = time.monotonic() + self.limit
        self.errors = tempfile.TemporaryFile("w+")
        # In a session of its own: what it starts for compiling ends with it.
        self.process = subprocess.Popen(self.command, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors,
                                        start_new_session=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.listen, args=(self.process.stdout,), daemon=True).start()

    def listen(self, stream):
        for line in stream:
            self.lines.put(line)
        self.lines.put(None)

    def wait_until_compiled(self):
        self.attempt(lambda: self.expect("compiled", self.deadline))

    def settle(self):
        self.attempt(lambda: self.ask() or self.expect("ready", time.monotonic() + self.limit))

    def measure(self):
        self.ask()
        return self.answer(time.monotonic() + self.limit)

    def ask(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended: answer() says why

    def expect(self, word, deadline):
        while self.answer(deadline).strip() != word:
            pass

    def answer(self, deadline):
        try:
            line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty as error:
            raise Failed(f"no answer in {self.limit:g} s") from error
        if line is None:
            status = self.process.wait()
            self.errors.seek(0)
            raise Failed(last_line(self.errors.read(), f"exit {status}"))
        return line

    def close(self):
        if self.process and self.process.returncode is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
