"""newhope's console: what an operator sees and presses, and nothing else.

One way of the data, from the engine to the glass:

    1. `gateway` is the only file that asks the engine; it works in threads of its own and posts messages.
    2. `app` keeps what the messages brought in one frozen `Picture` and shows it to the screen in front.
    3. `viewmodels` turn the picture into tables and lines; they are pure and know no Textual.
    4. `widgets` paint tables and lines, and only the cells that changed.
    5. `actions` is the one list of what can be done, which the keys, the footer, the palette and `?` all read.
    6. `screens` put these together, one screen a file, with its style sheet beside it.

A job never runs in this process: the console can be closed, or torn away with its SSH session, at any time.
Upper case opens a plan. Enter opens and goes on, and never starts anything; `E`, inside a confirmation, does.

May import every package of the engine. Its face is `entry.main`, the `newhope` command.
"""
