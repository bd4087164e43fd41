"""The one program that strace starts: it starts the real processes when told, and writes marks into the trace.

A line of JSON comes in, one goes out. Nothing of the product is imported here.
"""

import json
import os
import subprocess
import sys


def stopped(process, number):
    """End a process; its exit code. A thread that a tracer holds cannot take a signal: another one does, and the main
    thread may not wake up for it. So it is sent again, but not to an interpreter that ends and has no handler any more."""
    for again in range(10):
        if not again or is_caught(process.pid, number):
            process.send_signal(number)
        try:
            return process.wait(3)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    return process.wait()


def is_caught(pid, number):
    """Whether this process has a handler for a signal (proc_pid_status(5), SigCgt)."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        caught = next(line for line in status if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def main() -> None:
    """Obey until the input ends; then end what still runs."""
    os.umask(0o022)
    marks = os.open("/dev/null", os.O_WRONLY)
    running = {}
    for line in sys.stdin:
        order = json.loads(line)
        answer = None
        match order["do"]:
            case "mark":
                os.write(marks, f"mark {json.dumps(order['mark'])}".encode())
            case "start":
                with open(order["log"], "ab") as log:
                    process = subprocess.Popen(order["words"], env=order["env"], cwd="/", stdout=log, stderr=log)
                running[process.pid] = process
                answer = process.pid
            case "stop":
                answer = stopped(running.pop(order["process"]), order["signal"])
            case "poll":
                answer = running[order["process"]].poll()
            case "run":
                given = order["input"].encode()
                done = subprocess.run(order["words"], env=order["env"], cwd="/", input=given, capture_output=True)
                answer = [done.returncode, done.stdout.decode(), done.stderr.decode()]
        print(json.dumps(answer), flush=True)
    for process in running.values():
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
