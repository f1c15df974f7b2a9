"""How often Python looks for garbage that only it finds: objects that refer to each other in circles."""

import gc

OLD = 7_000_000
"""New objects more than were freed, after which those that grew old are looked through as well."""


def look_seldom(young: int = 700) -> None:
    """Never again at what is loaded by now, and at what grows old a hundred times more seldom than Python would.

    To look through all objects, most of them those of modules, takes some 80 ms in which nothing else is done, and what
    our processes make at a high rate refers to nothing in circles. ``young``: so many new ones are looked through
    alone; more for a process that makes them by the batch, and then the rest as Python would.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, 10, max(10, OLD // (10 * young)))
