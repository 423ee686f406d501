"""The `newhope` command: everything the engine does, for shells, timers and people who cannot use the console.

1. `main.main(argv)` finds the command (one file a command group; nothing is imported before it is needed) and turns
   every failure into three labelled lines on stderr, or one JSON object on stdout, and an exit status (`failures`).
2. A command reads the settings, asks hosts and repositories (`invocation`, `named`), and prints aligned text
   (`printing`, `table`, `wording`) or, with `--json`, one document of a shape described in `documents`.
3. What changes anything shows its plan first, asks (`confirmation`), and starts a job (`launching`): a detached
   process, `newhope run-job ID`, which does the work (`work_of_jobs`). Following it is only looking (`following`).

May import every package below. Face: `main.main`; `launching.launch_backup`, `launch_backups` and `launch_restore`,
which the console uses to start the very same jobs.
"""
