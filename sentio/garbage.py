"""How often Python looks for garbage that only it finds: objects that refer to each other in circles."""

import gc


def look_seldom(young: int = 700) -> None:
    """Never again at what is loaded by now, and at what grows old a hundred times more seldom than Python would.

    To look through all objects, most of them those of modules, takes some 80 ms in which nothing else is done, and what
    our processes make at a high rate refers to nothing in circles. ``young``: so many new ones are looked through
    alone; more for a process that makes them by the batch.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, 10, 1_000)
