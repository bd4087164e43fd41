"""The command line ``device-ui``: every command, its output and its exit code.

Promises
- Exit codes are those of sysexits.h. An error is one line on standard error: ``device-ui: …``.
- ``device-ui event`` exits with 0 only when the event is on flash. It is fast enough for a script's hundred events: `entry` runs it
  without argparse.
- Output for a person is printable, whatever a client or a mail server sent: control characters are escaped. Output for a program
  (``--json``, ``--csv``, ``settings``) is complete and unchanged.
- A factory reset erases the private key first, and is finished at the next start if a power cut interrupts it.
- ``device-ui check`` prints OK, WARN or FAIL for each part of the installation and exits with 0 if all are OK.

Depends on every other component; no other component imports it.

Read first
- `entry`: the start of each process. `parser`: the commands and their options.
- `commands`: one function a command; its docstring is the help text.
- `launch`: starts a process, maps errors to exit codes, and waits under systemd when the configuration is wrong.
- `run`: both processes for a demo or a desk, with `demo_server` as the mail server.
- `check`, `certificate`, `factory_reset`, `ownership`, `provision`: the logic of those commands. `output`: what commands print.
"""
